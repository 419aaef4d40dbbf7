"""Benchmarks, no tests: what the forms of operators that we choose are worth.

`python -m tests.bench nets` builds five networks, trains each for a minute, writes each in its
plain and in its chosen form, in float and int8, and times all files in turns. `python -m
tests.bench peers` times other converters' files beside them; see `peer_files`. `python -m
tests.bench arm` counts the instructions that `assets/latency/arm_counts.toml` is fitted to.
`python -m tests.bench training` measures pictures a second of our training loop beside a plain one.
`python -m tests.bench people FILE...` scores and times the shipped networks beside others' files.
`python -m tests.bench devices` measures those of two processes that train together beside one.
"""
