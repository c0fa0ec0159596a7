//! Budgets under any order of requests: never overspent, nothing left held, nothing counted twice.
