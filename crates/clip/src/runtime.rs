//! ONNX Runtime: tensors in, rows out.
//!
//! Invariants: the library is loaded once, on first use, from an absolute path; with one thread it starts none, with
//! more they are born with all signals blocked; a run or a load ends soon after the caller wants it to; what is loaded
//! is never unloaded, because its destructors are not safe at process exit. External crate: `ort`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::JoinHandle;

use ort::environment::{Environment, ThreadManager};
use ort::ep::CPU;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{Tensor, TensorElementType, TensorRef, ValueType};

use crate::error::{Error, Tower};
use crate::pixels::reserve;
use crate::watch::{self, Interrupted};

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
        let missing =
            |reason: String| Error::RuntimeMissing { path: path.display().to_string(), reason: one_line(&reason) };
        if !path.is_absolute() {
            return Err(missing("the path is not absolute".into()));
        }
        std::fs::File::open(path).map_err(|error| missing(error.to_string()))?;
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
        watch::spawn(work).map_err(ort::Error::wrap)
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a thread of the pool panicked"))
    }
}

/// One graph, ready to run.
pub(crate) struct Graph {
    session: Session,
    run: RunOptions,
    output: String,
    model: String,
    tower: Tower,
}

impl Graph {
    /// Open a graph file and choose its inputs and output.
    pub(crate) fn open(
        runtime: &Runtime,
        file: &Path,
        (model, family, tower): (&str, &str, Tower),
        threads: usize,
        interrupted: Interrupted,
    ) -> Result<Self, Error> {
        let failed =
            |error: ort::Error| Error::Inference { model: model.into(), tower, reason: one_line(error.message()) };
        let builder = || -> ort::Result<_> {
            Ok(Session::builder(&runtime.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads)?
                .with_intra_op_spinning(false)?
                .with_thread_manager(Pool)?
                .with_log_level(LogLevel::Fatal)?
                // Texts differ in length: a pattern per length would be kept for nothing.
                .with_memory_pattern(tower == Tower::Image)?
                // The arena keeps the memory of the largest batch for ever, in every connection.
                .with_execution_providers([CPU::default().with_arena_allocator(false).build()])?)
        };
        let mut builder = builder().map_err(failed)?;
        let canceler = builder.canceler();
        let stop = || drop(canceler.cancel());
        let session = watch::interruptible(interrupted, stop, || builder.commit_from_file(file))?.map_err(|error| {
            // The message names the whole path, which is for superusers only.
            let reason = one_line(error.message()).replace(&*file.to_string_lossy(), &file_name(file));
            Error::invalid(model, &file_name(file), reason)
        })?;
        let output =
            choose_output(&session, family, tower).map_err(|reason| Error::invalid(model, &file_name(file), reason))?;
        let run = RunOptions::new().map_err(failed)?;
        Ok(Self { session, run, output, model: model.into(), tower })
    }

    /// Run texts of one length: `ids` is `[texts, length]`, `mask` says which of them are not padding.
    pub(crate) fn run_texts(
        &mut self,
        texts: usize,
        ids: &[u32],
        mask: &[bool],
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let shape = [texts, ids.len() / texts.max(1)];
        let mut inputs = Vec::new();
        for input in self.session.inputs() {
            let values: Vec<i64> = match input.name() {
                "input_ids" | "text" => ids.iter().map(|&id| i64::from(id)).collect(),
                "attention_mask" => mask.iter().map(|&real| i64::from(real)).collect(),
                other => return Err(self.unknown_input(other)),
            };
            inputs.push((input.name().to_owned(), self.integers(shape, values, input.dtype())?));
        }
        self.run(texts, inputs, interrupted)
    }

    /// Run pictures: `pixels` is `[images, 3, height, width]`.
    pub(crate) fn run_images(
        &mut self,
        images: usize,
        pixels: &[f32],
        (width, height): (u32, u32),
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let [input] = self.session.inputs() else {
            return Err(self.unknown_input("more than one input"));
        };
        if element(input.dtype()) != Some(TensorElementType::Float32) {
            return Err(self.unknown_input(input.name()));
        }
        let name = input.name().to_owned();
        let tensor = TensorRef::from_array_view(([images, 3, height as usize, width as usize], pixels))
            .map_err(|error| self.failed(&error))?;
        self.run(images, vec![(name, tensor.into())], interrupted)
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
        inputs: Vec<(String, SessionInputValue<'_>)>,
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let Self { session, run, output, model, tower } = self;
        let failed = |reason: &str| Error::Inference { model: model.clone(), tower: *tower, reason: one_line(reason) };
        run.unterminate().map_err(|error| failed(error.message()))?;
        let run = &*run;
        let outputs =
            watch::interruptible(interrupted, || drop(run.terminate()), || session.run_with_options(inputs, run))?
                .map_err(|error| failed(error.message()))?;
        let (shape, values) =
            outputs[output.as_str()].try_extract_tensor::<f32>().map_err(|error| failed(error.message()))?;
        match **shape {
            [rows, width] if rows as usize == items && width > 0 => {
                let mut copy = reserve(values.len())?;
                copy.extend_from_slice(values);
                Ok(Rows { values: copy, width: width as usize })
            }
            _ => Err(failed(&format!("the output has shape {shape:?}, expected [{items}, dimensions]"))),
        }
    }

    fn failed(&self, error: &ort::Error) -> Error {
        Error::Inference { model: self.model.clone(), tower: self.tower, reason: one_line(error.message()) }
    }

    fn unknown_input(&self, input: &str) -> Error {
        Error::Inference {
            model: self.model.clone(),
            tower: self.tower,
            reason: format!("the graph wants {input:?}, which is not known here"),
        }
    }
}

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

fn element(dtype: &ValueType) -> Option<TensorElementType> {
    match dtype {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}

/// The output that holds embeddings. A wrong one gives vectors that look right and match nothing, so doubt refuses.
fn choose_output(session: &Session, family: &str, tower: Tower) -> Result<String, String> {
    let outputs = session.outputs();
    let named = |name: &str| outputs.iter().any(|output| output.name() == name).then(|| name.to_owned());
    let projected = match tower {
        Tower::Text => "text_embeds",
        Tower::Image => "image_embeds",
    };
    // SigLIP has no projection: its pooled output is the embedding. CLIP's is of another space.
    let pooled = if family.starts_with("siglip") { named("pooler_output") } else { None };
    let single = || match outputs {
        [only] if only.name() != "pooler_output" && only.name() != "last_hidden_state" => Some(only.name().to_owned()),
        _ => None,
    };
    named(projected).or_else(|| named("sentence_embedding")).or(pooled).or_else(single).ok_or_else(|| {
        let names: Vec<_> = outputs.iter().map(|output| output.name()).collect();
        format!("no output is known to be an embedding: expected \"{projected}\", found {}", names.join(", "))
    })
}

/// ONNX Runtime's messages span lines and name source files; the first line says what happened.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end().trim_end_matches('.').to_owned()
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
