"""Model distillation: the methods that dataset distillation is compared with."""
