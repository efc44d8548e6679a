"""The ledger: bytes that are shipped, to the byte, against what a receiver makes of them (`kd-baselines ledger`).

`payload` is what a sender ships, `receive` what a student learns from it; neither is loaded here, so that the
command line answers `--help` without torch.
"""
