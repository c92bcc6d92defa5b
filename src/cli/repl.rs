//! placeholder until merged
use crate::device::Settings; use crate::events::Interrupt; use crate::script::Session;
pub fn repl(_session: &mut Session, _settings: &Settings, _interrupt: &Interrupt) -> i32 { 0 }
