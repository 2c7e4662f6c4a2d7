"""What each job does: one function a stage."""
