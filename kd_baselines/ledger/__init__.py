"""The ledger (`kd-baselines ledger`): bytes that are sent, against the accuracy of the receiver's
student."""
