"""FirstRay's tests. A package, so that no other package called so stands before it."""
