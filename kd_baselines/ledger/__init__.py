"""The ledger (`kd-baselines ledger`): bytes that are shipped, against what a receiver makes of them.

`payload` is what a sender ships, `receive` what a student learns from it; neither is loaded here, so that the
command line answers `--help` without torch.
"""
