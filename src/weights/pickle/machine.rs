//! A pickle interpreter that can build tensors and nothing else: it knows the opcodes and the few names that `torch.save`
//! uses, imports nothing and calls nothing. Containers are kept in one list and referred to by index, so deep nesting
//! and cycles are harmless.
//! Source: CPython 3.11, `Lib/pickletools.py`; torch 2.15, `torch/serialization.py` and `torch/_utils.py`.

use std::collections::HashMap;
use std::rc::Rc;

use candle_core::DType;

use super::MAX_RANK;
use crate::error::Result;
use crate::{bail, error};

/// The most arguments of a call; torch.save writes seven.
const MOST_ARGUMENTS: usize = 16;

/// A tensor as a pickle describes it, not yet checked against its storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    pub dtype: DType,
    /// The storage's name in the archive, and its number of values.
    pub storage: String,
    pub values: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

#[derive(Clone)]
enum Value {
    None,
    Bool,
    Int(i64),
    Text(Rc<str>),
    Global(Global),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Tensor(Rc<Described>),
    Storage(Rc<Described>),
}

#[derive(Clone, Copy)]
enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Storage(DType),
}

impl Global {
    fn parse(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch", "FloatStorage") => Global::Storage(DType::F32),
            ("torch", "HalfStorage") => Global::Storage(DType::F16),
            ("torch", "BFloat16Storage") => Global::Storage(DType::BF16),
            ("torch", "DoubleStorage") => Global::Storage(DType::F64),
            ("torch", "LongStorage") => Global::Storage(DType::I64),
            ("torch", "IntStorage") => Global::Storage(DType::I32),
            ("torch", "ShortStorage") => Global::Storage(DType::I16),
            ("torch", "ByteStorage" | "BoolStorage") => Global::Storage(DType::U8),
            _ => {
                return Err(error!(Decode, "it asks for `{module}.{name}`, which is not part of a tensor")
                    .help("llmore reads tensors from such files and runs nothing; do not open this one with torch"));
            }
        })
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    containers: Vec<Vec<Value>>,
}

/// The named tensors of the dictionary that a pickle holds.
///
/// # Errors
/// `Decode` for anything but a dictionary of tensors.
pub(super) fn tensors(bytes: &[u8]) -> Result<Vec<(String, Described)>> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), containers: Vec::new() };
    let Value::Dict(dict) = machine.run()? else {
        bail!(Decode, "it does not hold tensors by name");
    };
    let mut tensors = Vec::new();
    for pair in machine.containers[dict].chunks_exact(2) {
        if let [Value::Text(name), Value::Tensor(tensor)] = pair {
            tensors.push((name.to_string(), tensor.as_ref().clone()));
        }
    }
    Ok(tensors)
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        loop {
            let start = self.at;
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode).map_err(|error| error.context(format!("byte {start} of its pickle")))?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => match self.byte()? {
                2 | 3 => {}
                protocol => bail!(Decode, "pickle protocol {protocol}; torch.save writes 2"),
            },
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let value = self.unsigned(4)? as u32 as i32;
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::None); // a float, which no tensor needs
            }
            b'X' => {
                let length = self.unsigned(4)? as usize;
                let text = String::from_utf8_lossy(self.take(length)?).into();
                self.stack.push(Value::Text(text));
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(Global::parse(&module, &name)?));
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b')' => self.push_tuple(Vec::new()),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push_tuple(items);
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_tuple(items);
            }
            b'}' => {
                let dict = self.container(Vec::new());
                self.stack.push(Value::Dict(dict));
            }
            b']' => {
                let list = self.container(Vec::new());
                self.stack.push(Value::List(list));
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.extend(items)?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.extend(items)?;
            }
            b'u' | b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            b'b' => {
                // Attributes of a dictionary (`_metadata` of a state_dict) are ignored.
                self.pop()?;
            }
            other => bail!(Decode, "opcode {other:#04x} is not one torch.save uses"),
        }
        Ok(())
    }

    /// A call of one of the few functions that build tensors and dictionaries.
    fn reduce(&mut self) -> Result<()> {
        let (Value::Tuple(arguments), Value::Global(function)) = (self.pop()?, self.pop()?) else {
            bail!(Decode, "a call of something that is not a function");
        };
        let length = self.containers[arguments].len();
        if length > MOST_ARGUMENTS {
            bail!(Decode, "a call with {length} arguments, where {MOST_ARGUMENTS} are the most");
        }
        let arguments = self.containers[arguments].clone();
        let made = match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => Value::Dict(self.container(Vec::new())),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => tensor.clone(),
            (
                Global::RebuildTensor,
                [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..],
            ) => {
                let mut tensor = storage.as_ref().clone();
                tensor.offset = count(*offset)?;
                tensor.shape = self.counts(*shape)?;
                tensor.strides = self.counts(*strides)?;
                Value::Tensor(Rc::new(tensor))
            }
            _ => bail!(Decode, "a call with arguments that torch.save does not write"),
        };
        self.stack.push(made);
        Ok(())
    }

    /// A reference to a storage: ("storage", type, name, device, values).
    fn storage(&mut self) -> Result<()> {
        let Value::Tuple(id) = self.pop()? else { bail!(Decode, "a reference that is not one to a storage") };
        let [_, Value::Global(Global::Storage(dtype)), Value::Text(name), _, Value::Int(values)] =
            self.containers[id].as_slice()
        else {
            bail!(Decode, "a reference that is not one to a storage");
        };
        let (storage, values) = (name.to_string(), count(*values)?);
        let described = Described { dtype: *dtype, storage, values, offset: 0, shape: Vec::new(), strides: Vec::new() };
        self.stack.push(Value::Storage(Rc::new(described)));
        Ok(())
    }

    fn counts(&self, tuple: usize) -> Result<Vec<usize>> {
        let length = self.containers[tuple].len();
        if length > MAX_RANK {
            bail!(Decode, "a tensor of {length} dimensions, where {MAX_RANK} are the most");
        }
        let number = |value: &Value| match value {
            Value::Int(value) => count(*value),
            _ => bail!(Decode, "a shape that is not made of whole numbers"),
        };
        self.containers[tuple].iter().map(number).collect()
    }

    fn container(&mut self, items: Vec<Value>) -> usize {
        self.containers.push(items);
        self.containers.len() - 1
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        let tuple = self.container(items);
        self.stack.push(Value::Tuple(tuple));
    }

    /// Puts items into the list or dictionary on top of the stack.
    fn extend(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last() {
            Some(Value::List(container) | Value::Dict(container)) => {
                let container = *container;
                self.containers[container].extend(items);
                Ok(())
            }
            _ => bail!(Decode, "items for something that is neither list nor dictionary"),
        }
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(|| error!(Decode, "its pickle ends in the middle"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        match self.stack.len().checked_sub(count) {
            Some(from) => Ok(self.stack.split_off(from)),
            None => bail!(Decode, "its pickle takes more than it has put down"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => bail!(Decode, "its pickle takes more than it has put down"),
        }
    }

    fn remember(&mut self, width: usize) -> Result<()> {
        let key = self.unsigned(width)? as u32;
        let value = self.pop()?;
        self.memo.insert(key, value.clone());
        self.stack.push(value);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<()> {
        let key = self.unsigned(width)? as u32;
        let value = self
            .memo
            .get(&key)
            .cloned()
            .ok_or_else(|| error!(Decode, "its pickle refers to memo {key}, which is not there"))?;
        self.stack.push(value);
        Ok(())
    }

    fn integer(&mut self, width: usize) -> Result<()> {
        let value = self.unsigned(width)? as i64;
        self.stack.push(Value::Int(value));
        Ok(())
    }

    /// An integer of up to eight bytes; larger ones do not occur in a checkpoint.
    fn long(&mut self) -> Result<()> {
        let width = usize::from(self.byte()?);
        if width > 8 {
            bail!(Decode, "a number of {width} bytes");
        }
        let value = self.unsigned(width)?;
        let unused = 64 - 8 * width as u32;
        let signed = if width == 0 { 0 } else { (value << unused) as i64 >> unused };
        self.stack.push(Value::Int(signed));
        Ok(())
    }

    /// A little-endian number.
    fn unsigned(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The text up to the end of a line.
    fn line(&mut self) -> Result<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            bail!(Decode, "its pickle ends in the middle");
        };
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        match self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => bail!(Decode, "its pickle ends in the middle"),
        }
    }
}

fn count(value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| error!(Decode, "a size of {value}"))
}
