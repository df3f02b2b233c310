"""How good the assessments are: agreement with readers, against rivals, under stress."""
