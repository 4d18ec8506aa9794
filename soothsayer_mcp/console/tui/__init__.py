"""`soothsayer watch`: the record and the open questions on a screen that stays open. Only this knows textual."""
