//! What the suites of the layers above the reactor share: worlds to run in, and protocols that
//! write down what happens to them.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod mail;
pub mod observed;
pub mod recorder;
pub mod world;

pub use mail::{Correspondent, Mail};
pub use recorder::{Log, Recorder};
pub use world::{Kind, World};

/// Runs each test, a function of a [`World`], on the kernel's network and on the simulated one: as
/// it is, and in bad moods (short sends and receives, some events late, some for nothing). The
/// `calm` ones do without the moods: they count calls, or use threads.
#[macro_export]
macro_rules! on_every_network {
    ($($name:ident),* $(,)? $(; calm: $($calm:ident),+ $(,)?)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name($crate::common::World::epoll()); })*
            $($(#[test] fn $calm() { super::$calm($crate::common::World::epoll()); })+)?
        }

        mod simulated {
            $(#[test] fn $name() {
                (0..3).for_each(|seed| super::$name($crate::common::World::simulated(seed)));
            })*
            $($(#[test] fn $calm() {
                (0..3).for_each(|seed| super::$calm($crate::common::World::simulated(seed)));
            })+)?
        }

        mod dribbling {
            $(#[test] fn $name() {
                for (seed, transfer) in [(0, 1), (1, 7), (2, 1000)] {
                    super::$name($crate::common::World::dribbling(seed, transfer));
                }
            })*
        }
    };
}
