"""What a method's author imports: what a method is, its settings, and the registry."""
