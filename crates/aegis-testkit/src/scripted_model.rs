//! A model server that answers by a script, counts what it saw, and can misbehave in every known way.
