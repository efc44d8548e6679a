"""Language models and their distillation, step by step: Born-Again Networks on Penn Treebank.

A text is words as numbers (`corpus`), a model maps windows of words to logits of the next word
(`nets`), and a run trains one model on words alone or on words and a teacher (`training`).
"""
