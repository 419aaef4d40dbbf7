"""What the emulator is made of: Debian's packages and PyPI's wheels, both by name and proof.

Debian's are those of one release, proven by its signature; the wheels are pinned by digest in
`wheels.txt`.
"""

from __future__ import annotations

from pathlib import Path

# One release: its Python is the wheels', its C library new enough for them.
RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHON = "3.11"

# The emulator with plugins (qemu-user-static has none), the libraries it asks for, and a compiler
# of 300 KB for our plugin, so that the machine needs none.
HOST = (
    "qemu-user",
    "libc6",
    "libcapstone4",
    "libffi8",
    "libgcc-s1",
    "libglib2.0-0",
    "libgmp10",
    "libgnutls30",
    "libhogweed6",
    "libidn2-0",
    "libnettle8",
    "libnuma1",
    "libp11-kit0",
    "libpcre2-8-0",
    "libtasn1-6",
    "libtcc-dev",
    "libunistring2",
    "liburing2",
    "tcc",
    "zlib1g",
)
ARM = (
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libssl3",
    "libstdc++6",
    "zlib1g",
)
WHEELS = Path(__file__).with_name("wheels.txt")
PLUGIN = Path(__file__).with_name("count.c")
GUEST = Path(__file__).with_name("guest.py")
