//! ONNX Runtime: tensors in, rows out.
//!
//! Invariants: the library is loaded once, on first use, from an absolute path; with one thread it starts no pool, and
//! pools are born with all signals blocked; a run or a load ends soon after the caller wants it to, because a thread of
//! [`threads`] lives as long as it and looks; what is loaded is never unloaded, because its destructors are not safe at
//! process exit. External crates: `ort`, `half`.

pub(crate) mod cpu;
pub(crate) mod library;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::JoinHandle;

use half::f16;
use ort::environment::{Environment, ThreadManager};
use ort::ep::CPU;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use crate::error::{Error, Tower};
use crate::memory::{HEADROOM, headroom, reserve};
use crate::recipe::Pooling;
use crate::runtime::library;
use crate::threads::{self, Interrupted};

/// Official builds of the library since 1.29 report usage to their maker unless these variables of the environment are "1"
/// before it is loaded: the documented one, and an earlier spelling.
pub const TELEMETRY_OFF: [&str; 2] = ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"];

/// What the library takes in a process's address space, and somewhat more.
const LIBRARY_BYTES: u64 = 64 * 1024 * 1024;

static LOADED: Mutex<Option<&'static Runtime>> = Mutex::new(None);

/// The loaded library. There is at most one in a process.
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
}

impl Runtime {
    /// Load the library at `path`, or return the one that is loaded from there.
    pub fn load(path: &Path) -> Result<&'static Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(runtime) = *loaded {
            return match runtime.path == path {
                true => Ok(runtime),
                false => Err(Error::RuntimeLoaded {
                    loaded: runtime.path.display().to_string(),
                    wanted: path.display().to_string(),
                }),
            };
        }
        let missing = |reason: String| {
            let path = path.display().to_string();
            // The path is for superusers only; the reason is for all.
            let reason = one_line(&reason).replace(&path, "the library");
            Error::RuntimeMissing { path, reason }
        };
        if !path.is_absolute() {
            return Err(missing("the path is not absolute".into()));
        }
        if let Some(defect) = library::defect(path).map_err(|error| missing(error.to_string()))? {
            return Err(missing(defect.into()));
        }
        headroom(LIBRARY_BYTES)?;
        let environment = ort::init_from(path)
            .map_err(|error| missing(error.to_string()))?
            .with_name("pg_clip")
            .with_telemetry(false)
            .with_logger(std::sync::Arc::new(|_, _, _, _, _| {}))
            .build()
            .map_err(|error| missing(error.to_string()))?;
        let runtime: &'static Self = Box::leak(Box::new(Self { environment, path: path.into() }));
        *loaded = Some(runtime);
        Ok(runtime)
    }

    /// The library that is loaded, if one is.
    pub fn loaded() -> Option<&'static Self> {
        *LOADED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the library says of itself: version, commit, compiler flags.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }
}

/// Starts the pool's threads.
struct Pool;

impl ThreadManager for Pool {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        threads::spawn(work).map_err(ort::Error::wrap)
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a thread of the pool panicked"))
    }
}

/// A graph file, and who wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// As its maker published it: optimised at each load, weights copied into this process.
    Published(&'a Path),
    /// As [`Graph::prepare`] saved it: optimised, weights in a file beside it that all processes map.
    Prepared(&'a Path),
}

/// Tensors of so many bytes or more are saved outside a prepared graph. Whatever is packed of tensors this large fills
/// whole lines of 64 bytes, so that all begin where aligned reads want them; the others are a few hundred kilobytes.
const MIN_MAPPED_BYTES: &str = "65536";

/// One graph, ready to run.
pub(crate) struct Graph {
    session: Session,
    run: RunOptions,
    /// The output that holds embeddings, and how one row is made of it.
    output: (String, Option<Pooling>),
    model: String,
    /// Which one it is; nothing where the graph has both.
    tower: Option<Tower>,
}

/// An output of a graph: its name, and its rank where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub name: String,
    pub rank: usize,
}

impl Graph {
    /// Open the graph of a tower.
    pub(crate) fn open(
        runtime: &Runtime,
        form: Form<'_>,
        (model, tower): (&str, Tower),
        output: (String, Option<Pooling>),
        threads: usize,
        interrupted: Interrupted,
    ) -> Result<Self, Error> {
        let (file, level) = match form {
            Form::Published(file) => (file, GraphOptimizationLevel::All),
            Form::Prepared(file) => (file, GraphOptimizationLevel::Disable),
        };
        let options = |builder: SessionBuilder| Ok(builder.with_optimization_level(level)?);
        let (session, run) = open_session(runtime, file, (model, Some(tower)), threads, options, interrupted)?;
        Ok(Self { session, run, output, model: model.into(), tower: Some(tower) })
    }

    /// Save the graph of a tower, optimised and packed for this processor, as `into` with its weights in `data` beside it.
    ///
    /// There is no `data` where no tensor is large.
    pub(crate) fn prepare(
        runtime: &Runtime,
        file: &Path,
        (model, tower): (&str, Tower),
        (into, data): (&Path, &str),
        interrupted: Interrupted,
    ) -> Result<(), Error> {
        let options = |builder: SessionBuilder| {
            Ok(builder
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_optimized_model_path(into)?
                .with_config_entry("session.optimized_model_external_initializers_file_name", data)?
                .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", MIN_MAPPED_BYTES)?
                .with_config_entry("session.save_external_prepacked_constant_initializers", "1")?)
        };
        open_session(runtime, file, (model, Some(tower)), 1, options, interrupted).map(drop)
    }

    /// Open a graph that has both towers.
    pub(crate) fn open_whole(
        runtime: &Runtime,
        file: &Path,
        model: &str,
        threads: usize,
        interrupted: Interrupted,
    ) -> Result<Self, Error> {
        let options = |builder: SessionBuilder| Ok(builder.with_optimization_level(GraphOptimizationLevel::All)?);
        let (session, run) = open_session(runtime, file, (model, None), threads, options, interrupted)?;
        Ok(Self { session, run, output: (String::new(), None), model: model.into(), tower: None })
    }

    pub(crate) fn outputs(&self) -> Vec<Output> {
        let output = |output: &Outlet| Output { name: output.name().into(), rank: shape(output.dtype()).len() };
        self.session.outputs().iter().map(output).collect()
    }

    /// Say which output holds embeddings.
    pub(crate) fn choose(&mut self, output: String, pooling: Option<Pooling>) {
        self.output = (output, pooling);
    }

    /// The shape of the input that holds texts or pictures; a dimension that is not fixed is nothing.
    pub(crate) fn input_shape(&self) -> Vec<Option<usize>> {
        let names = if self.tower == Some(Tower::Image) { PIXELS } else { IDS };
        let inputs = self.session.inputs();
        let input = inputs.iter().find(|input| names.contains(&input.name())).or(inputs.first());
        // Exports fix a dimension by its number, or leave it open by -1 or by a name.
        input.map_or(&[][..], |input| shape(input.dtype())).iter().map(|&size| usize::try_from(size).ok()).collect()
    }

    /// Run texts of one length: `ids` is `[texts, length]`, `mask` says which of them are not padding.
    pub(crate) fn run_texts(
        &mut self,
        texts: usize,
        ids: &[u32],
        mask: &[bool],
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let inputs = self.text_inputs(texts, ids, mask)?;
        self.run(texts, inputs, mask, interrupted)
    }

    /// Run pictures: `pixels` is `[images, 3, height, width]`.
    pub(crate) fn run_images(
        &mut self,
        images: usize,
        pixels: &[f32],
        size: (u32, u32),
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let inputs = self.image_inputs(images, pixels, size)?;
        self.run(images, inputs, &[], interrupted)
    }

    /// Run texts and one picture through a graph that has both towers, and return the named outputs, rank 2 each.
    pub(crate) fn run_whole(
        &mut self,
        (texts, ids, mask): (usize, &[u32], &[bool]),
        (pixels, size): (&[f32], (u32, u32)),
        outputs: &[&str],
        interrupted: Interrupted,
    ) -> Result<Vec<Rows>, Error> {
        let mut inputs = self.text_inputs(texts, ids, mask)?;
        inputs.extend(self.image_inputs(1, pixels, size)?);
        let found = self.execute(inputs, interrupted, |found| {
            let rows = |&output: &&str| {
                let value = found.get(output).ok_or_else(|| format!("it has no output {output:?}"))?;
                let (shape, values) = floats(value)?;
                match *shape {
                    [_, width] if width > 0 => Ok(Rows { values, width }),
                    _ => Err(format!("the output {output:?} has shape {shape:?}, expected two dimensions")),
                }
            };
            outputs.iter().map(rows).collect()
        })?;
        Ok(found)
    }

    fn text_inputs(&self, texts: usize, ids: &[u32], mask: &[bool]) -> Result<Inputs<'static>, Error> {
        let shape = [texts, ids.len() / texts.max(1)];
        let mut inputs = Vec::new();
        for input in self.session.inputs() {
            let values: Vec<i64> = match input.name() {
                name if IDS.contains(&name) => ids.iter().map(|&id| i64::from(id)).collect(),
                "attention_mask" => mask.iter().map(|&real| i64::from(real)).collect(),
                // One sentence, never a pair.
                "token_type_ids" => vec![0; ids.len()],
                name if self.tower.is_none() && PIXELS.contains(&name) => continue,
                other => return Err(self.unknown_input(other)),
            };
            inputs.push((input.name().to_owned(), self.integers(shape, values, input.dtype())?));
        }
        Ok(inputs)
    }

    fn image_inputs<'a>(
        &self,
        images: usize,
        pixels: &'a [f32],
        (width, height): (u32, u32),
    ) -> Result<Inputs<'a>, Error> {
        let is_pixels = |input: &&Outlet| PIXELS.contains(&input.name());
        let inputs = self.session.inputs();
        if let Some(other) = inputs.iter().find(|input| self.tower.is_some() && !is_pixels(input) && inputs.len() > 1) {
            return Err(self.unknown_input(other.name()));
        }
        // The only input of an image tower may have any name.
        let Some(input) = inputs.iter().find(is_pixels).or(inputs.first()) else {
            return Err(self.unknown_input("no input"));
        };
        let shape = [images, 3, height as usize, width as usize];
        let tensor = match element(input.dtype()) {
            Some(TensorElementType::Float32) => {
                TensorRef::from_array_view((shape, pixels)).map_err(|error| self.failed(&error))?.into()
            }
            Some(TensorElementType::Float16) => {
                let mut halves = reserve(pixels.len())?;
                halves.extend(pixels.iter().map(|&value| f16::from_f32(value)));
                Tensor::from_array((shape, halves)).map_err(|error| self.failed(&error))?.into()
            }
            _ => return Err(self.unknown_input(input.name())),
        };
        Ok(vec![(input.name().to_owned(), tensor)])
    }

    fn integers(
        &self,
        shape: [usize; 2],
        values: Vec<i64>,
        dtype: &ValueType,
    ) -> Result<SessionInputValue<'static>, Error> {
        match element(dtype) {
            Some(TensorElementType::Int64) => Tensor::from_array((shape, values)).map(Into::into),
            Some(TensorElementType::Int32) => {
                // Ids are below the size of a vocabulary, a mask is 0 or 1.
                let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
                Tensor::from_array((shape, values)).map(Into::into)
            }
            _ => return Err(self.unknown_input("an input that is not of type int64 or int32")),
        }
        .map_err(|error| self.failed(&error))
    }

    fn run(
        &mut self,
        items: usize,
        inputs: Inputs<'_>,
        mask: &[bool],
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let (output, pooling) = self.output.clone();
        self.execute(inputs, interrupted, |found| {
            let value = found.get(&output).ok_or_else(|| format!("it has no output {output:?}"))?;
            let (shape, values) = floats(value)?;
            match (shape.as_slice(), pooling) {
                (&[rows, width], None) if rows == items && width > 0 => Ok(Rows { values, width }),
                (&[rows, length, width], Some(pooling)) if rows == items && length > 0 && width > 0 => {
                    let mut pooled = reserve(rows * width).map_err(|error| error.to_string())?;
                    for (row, tokens) in values.chunks_exact(length * width).enumerate() {
                        let mask = mask.get(row * length..).and_then(|mask| mask.get(..length));
                        pooled.extend(pool(tokens, width, mask, pooling));
                    }
                    Ok(Rows { values: pooled, width })
                }
                _ => Err(format!("the output has shape {shape:?}, expected [{items}, dimensions]")),
            }
        })
    }

    /// Run the graph, and make something of its outputs.
    fn execute<T>(
        &mut self,
        inputs: Inputs<'_>,
        interrupted: Interrupted,
        make: impl FnOnce(&SessionOutputs<'_>) -> Result<T, String>,
    ) -> Result<T, Error> {
        headroom(HEADROOM)?;
        let Self { session, run, model, tower, .. } = self;
        let failed = |reason: &str| inference_failed(model, *tower, reason);
        run.unterminate().map_err(|error| failed(error.message()))?;
        let run = &*run;
        let outputs =
            threads::interruptible(interrupted, || drop(run.terminate()), || session.run_with_options(inputs, run))?
                .map_err(|error| failed(error.message()))?;
        make(&outputs).map_err(|reason| failed(&reason))
    }

    fn failed(&self, error: &ort::Error) -> Error {
        inference_failed(&self.model, self.tower, error.message())
    }

    fn unknown_input(&self, input: &str) -> Error {
        let reason = format!("the graph wants {input:?}, which is not known here");
        inference_failed(&self.model, self.tower, &reason)
    }
}

fn open_session(
    runtime: &Runtime,
    file: &Path,
    (model, tower): (&str, Option<Tower>),
    threads: usize,
    options: impl FnOnce(SessionBuilder) -> ort::Result<SessionBuilder>,
    interrupted: Interrupted,
) -> Result<(Session, RunOptions), Error> {
    let failed = |error: ort::Error| inference_failed(model, tower, error.message());
    let builder = || -> ort::Result<_> {
        Ok(options(Session::builder(&runtime.environment)?)?
            // With a pool that cannot be had, the library opens nothing at all.
            .with_intra_threads(threads::startable(threads))?
            .with_intra_op_spinning(false)?
            .with_thread_manager(Pool)?
            .with_log_level(LogLevel::Fatal)?
            // Texts differ in length: a pattern per length would be kept for nothing.
            .with_memory_pattern(tower == Some(Tower::Image))?
            // The arena keeps the memory of the largest batch for ever, in every connection.
            .with_execution_providers([CPU::default().with_arena_allocator(false).build()])?)
    };
    headroom(HEADROOM)?;
    let mut builder = builder().map_err(failed)?;
    let canceler = builder.canceler();
    let stop = || drop(canceler.cancel());
    let session = threads::interruptible(interrupted, stop, || builder.commit_from_file(file))?.map_err(|error| {
        if is_about_memory(error.message()) {
            return Error::OutOfMemory { bytes: None };
        }
        // The message names the whole path, which is for superusers only.
        let reason = one_line(error.message()).replace(&*file.to_string_lossy(), &file_name(file));
        Error::invalid(model, &file_name(file), reason)
    })?;
    Ok((session, RunOptions::new().map_err(failed)?))
}

/// A graph with both towers fails as the text tower: it is run when a model is added, never in a server.
fn inference_failed(model: &str, tower: Option<Tower>, reason: &str) -> Error {
    if is_about_memory(reason) {
        return Error::OutOfMemory { bytes: None };
    }
    Error::Inference { model: model.into(), tower: tower.unwrap_or(Tower::Text), reason: one_line(reason) }
}

/// ONNX Runtime has no error code for it: what its allocator says, and C++'s own.
fn is_about_memory(message: &str) -> bool {
    ["bad_alloc", "Failed to allocate memory", "Cannot allocate memory"].iter().any(|said| message.contains(said))
}

/// What a run is given, by name.
type Inputs<'a> = Vec<(String, SessionInputValue<'a>)>;

/// Names under which exports ask for tokens, and for pixels.
const IDS: &[&str] = &["input_ids", "text"];
const PIXELS: &[&str] = &["pixel_values", "image"];

/// What a run gives: one row per item.
pub(crate) struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

/// One row of a row per token. Without a mask every token counts.
fn pool(tokens: &[f32], width: usize, mask: Option<&[bool]>, pooling: Pooling) -> Vec<f32> {
    let counted: Vec<&[f32]> = tokens
        .chunks_exact(width)
        .enumerate()
        .filter(|(position, _)| mask.is_none_or(|mask| mask[*position]))
        .map(|(_, token)| token)
        .collect();
    match (pooling, counted.as_slice()) {
        (Pooling::Cls, [first, ..]) => first.to_vec(),
        (Pooling::Last, [.., last]) => last.to_vec(),
        // Scaling to length one comes later, so that the sum does for the mean.
        (Pooling::Mean, counted) => (0..width).map(|place| counted.iter().map(|token| token[place]).sum()).collect(),
        (_, []) => vec![0.0; width],
    }
}

/// Shape and numbers of a tensor, in single precision whatever it has.
fn floats(value: &DynValue) -> Result<(Vec<usize>, Vec<f32>), String> {
    let sizes = |shape: &[i64]| shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    if element(value.dtype()) == Some(TensorElementType::Float16) {
        let (shape, halves) = value.try_extract_tensor::<f16>().map_err(|error| error.message().to_owned())?;
        return Ok((sizes(shape), halves.iter().map(|half| half.to_f32()).collect()));
    }
    let (shape, values) = value.try_extract_tensor::<f32>().map_err(|error| error.message().to_owned())?;
    let mut copy = reserve(values.len()).map_err(|error| error.to_string())?;
    copy.extend_from_slice(values);
    Ok((sizes(shape), copy))
}

fn element(dtype: &ValueType) -> Option<TensorElementType> {
    match dtype {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}

fn shape(dtype: &ValueType) -> &[i64] {
    match dtype {
        ValueType::Tensor { shape, .. } => shape,
        _ => &[],
    }
}

/// ONNX Runtime's messages span lines and name source files; the first line says what happened.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end().trim_end_matches('.').to_owned()
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
