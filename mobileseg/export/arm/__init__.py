"""Arm kernels without an Arm machine: the runtimes' aarch64 wheels under user-mode emulation."""
