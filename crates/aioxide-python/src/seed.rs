//! How objects are made of classes that are written in Python.
//!
//! # Facts
//!
//! The objects of a compiled class have no `__dict__`. Programs set attributes on asyncio's transports,
//! and put functions of their own in the place of methods. The objects of a class in Python over a
//! compiled one have a `__dict__`, and are made by calling it.
//!
//! PyO3 can give a compiled class a `__dict__` too. On Python 3.11 and 3.12 the dictionary is then made
//! while the object is: when the garbage collector knows the object already, and before its value
//! stands in it. Making a dictionary may run the collector, which finds an object without a value.
//!
//! # What was chosen
//!
//! The binding calls the class in Python with a [`Seed`], which holds the Rust value. The compiled
//! class's `__new__` takes it out. Nothing else makes such an object.
//!
//! # Why it is sound
//!
//! CPython keeps the attributes of such an object in front of it, where its own code visits and clears
//! them, and makes a dictionary when one is wanted. So from the moment that the collector knows the
//! object until its value stands in it nothing is made that the collector knows, and no Python code
//! runs: the collector does not run. `object.__new__` takes plain memory, on 3.11 and 3.12 a second time
//! for attributes; then PyO3 writes the values of the base and of the class. Before, the value is in no
//! object: what it refers to has an owner whom the collector does not know, and is not garbage.
//!
//! # What it costs
//!
//! A call, a small object, and room for attributes: a few tenths of a microsecond for each
//! transport. What methods would cost, `methods.rs` takes back.

use std::any::Any;
use std::cell::Cell;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::gil::OnGil;

/// The Rust value of an object that is being made.
#[pyclass(frozen, module = "aioxide")]
pub struct Seed(OnGil<Cell<Option<Box<dyn Any>>>>);

impl Seed {
    /// The object of `class`, whose `__new__` takes `value` out of its seed.
    pub fn grow<'py, T: 'static>(
        class: &Bound<'py, PyType>,
        value: T,
    ) -> PyResult<Bound<'py, PyAny>> {
        let seed = Seed(OnGil::new(Cell::new(Some(Box::new(value)))));
        class.call1((seed,))
    }

    /// The value.
    ///
    /// # Errors
    /// When it was taken, or is another class's.
    pub fn take<T: 'static>(&self, py: Python<'_>) -> PyResult<T> {
        let value = self.0.get(py).take();
        let value = value.and_then(|value| value.downcast().ok());
        let value = value.ok_or_else(|| PyTypeError::new_err("the seed of another class"))?;
        Ok(*value)
    }
}
