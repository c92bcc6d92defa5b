//! Memory of a device, behind one trait that plans and dry steps ask. The host's is read from the system and, where the
//! program installs [`Counting`] as its allocator, counted; another device is a file beside `host.rs` and a line in [`of`].

mod counting;
#[cfg(test)]
mod guarded;
mod host;

use candle_core::Device;

pub use counting::Counting;
pub use host::Host;

/// What can be known of a device's memory. All figures are in bytes; `None` is what the system does not say.
pub trait DeviceMemory: Sync {
    /// What tensors hold now; the whole process where [`is_counted`](Self::is_counted) is false.
    fn held(&self) -> u64;

    /// Starts to look for the most that [`held`](Self::held) comes to. There is one look at a time in a process.
    fn watch(&self);

    /// The most that [`held`](Self::held) came to since it is watched; where it is not counted, the most that the process
    /// ever had, which may be more.
    fn peak(&self) -> u64;

    /// Whether [`held`](Self::held) and [`peak`](Self::peak) count what is allocated, or are readings of the whole process.
    fn is_counted(&self) -> bool;

    /// What the process has now, tensors or not.
    fn taken(&self) -> Option<u64>;

    /// The most that [`taken`](Self::taken) ever was.
    fn most(&self) -> Option<u64>;

    /// What the process may come to: what it has and what is free, within its limits.
    fn limit(&self) -> Option<u64>;
}

/// The memory that tensors of a device take. Devices that have no file here yet are answered for by the host.
pub fn of(device: &Device) -> &'static dyn DeviceMemory {
    match device {
        Device::Cpu | Device::Cuda(_) | Device::Metal(_) => &Host,
    }
}
