//! Carries out a plan within its deadlines: ordered attempts, classified faults, invisible fallback.
