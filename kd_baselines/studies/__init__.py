"""Studies of model distillation: arms of a recipe compared, chains of Born-Again generations."""
