//! The CPU itself: descriptor tables, exceptions, per-CPU data, features, FPU state.

pub mod layout;
pub mod per_cpu;
