//! Tests of the whole log: stores that are away, full disks, cut files, neighbours.

mod crash;
mod fresh;
mod full;
mod stand_in;
mod traffic;
