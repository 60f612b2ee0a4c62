//! The earth, roughly: nine regions, and round trips between them in milliseconds.
//!
//! Rounded figures of the order that clouds' public measurements between their regions show; the worst is 160 ms one way. Hosts
//! are where nodes of public chains mostly are.

/// North America east and west, South America, Europe west and east, India, South-East Asia, Japan, Oceania: the part of hosts in each.
pub(super) const SHARES: [f64; 9] = [0.22, 0.15, 0.05, 0.22, 0.13, 0.05, 0.08, 0.07, 0.03];

/// From each to each of the regions before it and itself; the rest follows.
const ROUND_TRIP_MS: [&[f64]; 9] = [
    &[4.0],
    &[62.0, 4.0],
    &[115.0, 175.0, 4.0],
    &[75.0, 135.0, 185.0, 4.0],
    &[95.0, 150.0, 200.0, 25.0, 4.0],
    &[190.0, 220.0, 300.0, 120.0, 120.0, 4.0],
    &[215.0, 165.0, 320.0, 170.0, 165.0, 60.0, 4.0],
    &[150.0, 105.0, 255.0, 220.0, 230.0, 125.0, 70.0, 4.0],
    &[200.0, 140.0, 310.0, 260.0, 270.0, 150.0, 95.0, 105.0, 4.0],
];

/// From each region to each.
pub(super) fn round_trip_ms() -> Vec<Vec<f64>> {
    let between = |one: usize, other: usize| ROUND_TRIP_MS[one.max(other)][one.min(other)];
    (0..SHARES.len())
        .map(|one| (0..SHARES.len()).map(|other| between(one, other)).collect())
        .collect()
}
