"""`soothsayer ui`: local pages over one state folder. Nothing here is imported by any other command."""
