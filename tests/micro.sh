#!/bin/sh
# Make an environment with TFLite for microcontrollers, which obeys the memory plan of a file and
# says how many bytes of its arena it took.
#
#   sh tests/micro.sh DIR          then: MOBILESEG_MICRO=DIR/bin/python pytest -m micro
set -eu

if [ $# -ne 1 ]; then
    echo "usage: sh tests/micro.sh DIR   (PYTHON names another python3)" >&2
    exit 2
fi
"${PYTHON:-python3}" -m venv "$1"
"$1/bin/pip" install --quiet tflite-micro
echo "MOBILESEG_MICRO=$1/bin/python"
