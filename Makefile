# pg_clip: `make help` lists the targets.
PG_CONFIG ?= pg_config

PG_CONFIG_PATH = $(abspath $(shell command -v $(PG_CONFIG)))
PG_MAJOR = $(shell $(PG_CONFIG) --version 2>/dev/null | grep -oE '[0-9]+' | head -n 1)
PROMISE_SECONDS ?= 3600
# `make test` runs these tests a second time, with both extensions in a schema that ordinary roles cannot use.
# docs/project/reliability.md gives the reasons.
OUT_OF_REACH = auto_embed owners privileges promise queue search search_pools service triggers
# Each run names the same packages: with others, cargo would compile the tests again with other features.
CARGO_TEST = cargo test --release --target-dir target --no-fail-fast -p clip -p pgclip -p service -p e2e
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# The command goes next to the server's own programs, because each major release of the server has its own. That directory is
# often on nobody's PATH. So `make install` creates a link in a directory that shells and sudo search: to the server that was
# installed last. LINKDIR= creates no link. Packages create their own.
LINKDIR ?= /usr/local/bin
LINK = $(if $(DESTDIR)$(filter /bin /usr/bin /usr/local/bin,$(BINDIR)),,$(if $(LINKDIR),$(LINKDIR)/pgclip))
BINDIR = $(DESTDIR)$(shell $(PG_CONFIG) --bindir)
PKGLIBDIR = $(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)
SHAREDIR = $(DESTDIR)$(shell $(PG_CONFIG) --sharedir)
EXTENSIONDIR = $(SHAREDIR)/extension
MODELS = $(SHAREDIR)/pg_clip/models
MODELDIR = $(MODELS)/emoji
EXAMPLES = $(SHAREDIR)/pg_clip/examples

SCRIPT = sql/pg_clip--$(VERSION).sql
LIBRARY = target/release/libpg_clip.so
COMMAND = target/release/pgclip
RUNTIME = target/onnxruntime/libonnxruntime.so
OPENVINO = $(wildcard target/openvino/*)
RUNTIME_LICENSES = $(wildcard $(addprefix target/onnxruntime/,LICENSE ThirdPartyNotices.txt))
NO_RUNTIME = ONNX Runtime is left out: $(RUNTIME) is not there. Run 'make setup', or set clip.onnxruntime_path.
MODEL_FILES = $(wildcard $(addprefix models/emoji/,config.json pg_clip.json preprocessor_config.json tokenizer.json tokenizer_config.json))
MODEL_GRAPHS = $(wildcard models/emoji/onnx/*.onnx)

# Installs by rename: a server that has the old file open keeps it whole.
install_by_rename = install -m 755 $(1) "$(2).new" && mv -f "$(2).new" "$(2)"
# For the targets that install by themselves: sudo, if the caller cannot write to the server's directories.
SUDO = $(shell test -w "$(BINDIR)" -a -w "$(PKGLIBDIR)" -a -w "$(EXTENSIONDIR)" || echo sudo)

# Build the extension and the command pgclip. Run `make setup` before.
all: sql
	@test -n "$(PG_CONFIG_PATH)" || { echo "There is no $(PG_CONFIG). Run 'make setup', or name one: make PG_CONFIG=…" >&2; exit 1; }
	PGRX_PG_CONFIG_PATH="$(PG_CONFIG_PATH)" cargo build --release --target-dir target --no-default-features --features pg$(PG_MAJOR)
	cargo build --release --target-dir target --package pgclip

# Assemble the script that CREATE EXTENSION runs from its parts, in the order of their names.
sql: $(SCRIPT)

$(SCRIPT): $(wildcard sql/parts/*.sql)
	awk 'FNR == 1 && NR > 1 {print ""} {print}' $(sort $^) >$@.new && mv $@.new $@

# Install the built files into the directories that pg_config prints.
install:
	@test -e $(LIBRARY) -a -e $(COMMAND) || { echo "There is nothing to install yet. Run 'make' first." >&2; exit 1; }
	install -d "$(BINDIR)" "$(PKGLIBDIR)/pg_clip" "$(EXTENSIONDIR)" "$(MODELDIR)/onnx" "$(EXAMPLES)"
	$(call install_by_rename,$(COMMAND),$(BINDIR)/pgclip)
	$(call install_by_rename,$(LIBRARY),$(PKGLIBDIR)/pg_clip.so)
	$(if $(wildcard $(RUNTIME)),$(call install_by_rename,$(RUNTIME),$(PKGLIBDIR)/pg_clip/libonnxruntime.so),@echo "$(NO_RUNTIME)")
	$(if $(OPENVINO),install -d "$(PKGLIBDIR)/pg_clip/openvino.new" && install -m 644 $(OPENVINO) "$(PKGLIBDIR)/pg_clip/openvino.new")
	$(if $(OPENVINO),rm -rf "$(PKGLIBDIR)/pg_clip/openvino" && mv "$(PKGLIBDIR)/pg_clip/openvino.new" "$(PKGLIBDIR)/pg_clip/openvino")
	$(if $(RUNTIME_LICENSES),install -m 644 $(RUNTIME_LICENSES) "$(PKGLIBDIR)/pg_clip")
	install -m 644 pg_clip.control sql/pg_clip--*.sql "$(EXTENSIONDIR)"
	install -m 644 examples/emoji.tsv examples/emoji.sql "$(EXAMPLES)"
	$(if $(MODEL_FILES),install -m 444 $(MODEL_FILES) "$(MODELDIR)")
	$(if $(MODEL_GRAPHS),install -m 444 $(MODEL_GRAPHS) "$(MODELDIR)/onnx")
	$(if $(DESTDIR),,$(if $(wildcard $(RUNTIME)),$(if $(MODEL_GRAPHS),"$(BINDIR)/pgclip" --pg-config "$(PG_CONFIG_PATH)" prepare emoji)))
	$(if $(LINK),install -d "$(LINKDIR)" && ln -sfn "$(BINDIR)/pgclip" "$(LINK)" || echo "The link to pgclip in $(LINKDIR) could not be created.")
	@echo "The command is $(BINDIR)/pgclip$(if $(LINK), (and $(LINK)))"

# Remove the files that `make install` copied. Models that were added later stay.
uninstall:
	rm -rf "$(BINDIR)/pgclip" "$(PKGLIBDIR)/pg_clip.so" "$(PKGLIBDIR)/pg_clip" "$(MODELDIR)" "$(EXAMPLES)"
	$(if $(LINK),test "$$(readlink "$(LINK)")" != "$(BINDIR)/pgclip" || rm "$(LINK)")
	rm -f "$(EXTENSIONDIR)"/pg_clip.control "$(EXTENSIONDIR)"/pg_clip--*.sql
	@test ! -d "$(MODELS)" || rmdir --ignore-fail-on-non-empty "$(MODELS)" "$(SHAREDIR)/pg_clip"
	@test ! -d "$(MODELS)" || { echo "These models were added later and stay, in $(MODELS):"; ls "$(MODELS)"; }

# Install the missing requirements of the build, the demonstration and the tests.
setup:
	scripts/setup.sh "$(PG_CONFIG)"

# Fetch the ONNX Runtime with OpenVINO into target/openvino, for the embedding service. `make install` then installs it, too.
openvino:
	scripts/setup.sh --openvino

# Set up, build, install, and show a demonstration on a temporary server.
demo: ready
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/demo.sh

# Set up, build, install, and start a web application with sample images; GALLERY_PHOTOS=DIR uses your own. Needs Node.js 20.
gallery: ready
	PG_CONFIG="$(PG_CONFIG_PATH)" examples/gallery/run.sh

# Set up, build, install, and run all tests.
test: ready
	PG_CONFIG="$(PG_CONFIG_PATH)" $(CARGO_TEST)
	PG_CONFIG="$(PG_CONFIG_PATH)" PG_CLIP_TEST_SCHEMA=elsewhere $(CARGO_TEST) $(addprefix --test ,$(OUT_OF_REACH)) -- --skip a_hundred_thousand_rows
	PG_CONFIG="$(PG_CONFIG_PATH)" PG_CLIP_TEST_SERVICE=on $(CARGO_TEST) --test hostile

# Run the applications in examples/, each with its own tools. Needs Node 20 or newer. RECIPE=django runs one.
test-applications: ready
	scripts/setup.sh "$(PG_CONFIG)" chromium openjdk-17-jdk-headless libpostgresql-jdbc-java python3-venv rake ruby-activerecord ruby-pg
	PG_CONFIG="$(PG_CONFIG_PATH)" cargo test --release --target-dir target --no-fail-fast -p applications -- --test-threads 2 $(RECIPE)

# Run the tests on three nodes of Citus, with the installed extension. Citus must be installed for the same server.
test-citus:
	@test -e "$(shell $(PG_CONFIG) --pkglibdir)/citus.so" || { echo "There is no Citus for $(PG_CONFIG): citus.so is not in $(shell $(PG_CONFIG) --pkglibdir)." >&2; exit 1; }
	PG_CONFIG="$(PG_CONFIG_PATH)" cargo test --release --target-dir target --no-fail-fast -p citus -- --test-threads 1 --nocapture $(CITUS)

# Fetch OpenVINO into target/openvino, set up, build, install, and run the tests of execution providers.
test-providers: openvino
	+$(MAKE) ready
	PG_CONFIG="$(PG_CONFIG_PATH)" cargo test --release --target-dir target --no-fail-fast -p providers --test openvino --test incomplete --test threads --test service -- --nocapture

# Run the test of CUDA: needs a GPU, and target/cuda/libonnxruntime.so with the libraries of its provider.
test-cuda: setup
	cargo test --release --target-dir target -p providers --test cuda

# Run the tests of several servers, each in a network namespace of its own. Needs root.
test-cluster: ready
	scripts/setup.sh "$(PG_CONFIG)" iproute2 pgbouncer
	PG_CONFIG="$(PG_CONFIG_PATH)" cargo test --release --target-dir target --no-fail-fast -p cluster -- --test-threads 2

# Run one test, SQL file or page with the installed extension: make one TEST=queue::any_key_will_do, SQL=errors, PAGE=README.md
one: TEST ?= $(if $(PAGE),pages,regress)
one:
	PG_CONFIG="$(PG_CONFIG_PATH)" $(if $(SQL),PG_CLIP_SQL="$(SQL)") $(if $(PAGE),PG_CLIP_PAGE="$(PAGE)") \
		$(CARGO_TEST) --test $(subst ::, ,$(TEST)) -- --nocapture

# Check the sources without running them: format, lints, licenses, shell, Python, words, links. STEPS="fmt words" chooses.
check: setup
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/check.sh $(STEPS)

# Run the exactness tests at full size: random weights in the shape of ViT-B/32, compared with transformers.
test-full-size: ready
	scripts/test/full_size.sh test

# PROMISE_SECONDS=600 and FUZZ_SECONDS=600 shorten it:
# Run the long tests: an hour of the first promise, leaks, random queries, other servers, fuzzing. Needs root and a day.
test-all: test test-applications test-cluster test-providers test-full-size
	PG_CONFIG="$(PG_CONFIG_PATH)" PG_CLIP_SECONDS=$(PROMISE_SECONDS) cargo test --release --target-dir target -p e2e --test promise -- --nocapture
	scripts/setup.sh "$(PG_CONFIG)" debootstrap libfaketime pgbouncer postgresql-plpython3-$(PG_MAJOR) sqlsmith valgrind
	PG_CONFIG="$(PG_CONFIG_PATH)" cargo test --release --target-dir target --no-fail-fast -p endurance
	PG_CLIP_REQUESTS=1000000 cargo test --release --target-dir target -p pgclip --test serve -- --nocapture memory_does_not_grow
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/test/valgrind.sh
	scripts/test_servers.sh
	scripts/test/upgrade.sh
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/test/minor.sh
	+$(MAKE) test-deb check-image PG_CONFIG="$(PG_CONFIG_PATH)"
	scripts/test/fuzz.sh $(FUZZ_SECONDS)

# Measure, and compare with alternatives, for docs/project/performance.md; takes an hour. PARTS="latency render" chooses.
bench: ready
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/bench.sh $(PARTS)

# Measure the embedded model, in a minute.
bench-quick: ready
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/bench.sh quick

# Build the Debian package, in target/deb.
deb: all
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/release/deb.sh

# Install the Debian package into a clean Debian, use it there, and purge it. Needs root.
test-deb: deb
	PG_CONFIG="$(PG_CONFIG_PATH)" scripts/test/deb.sh

# Build the Docker image and the CloudNativePG extension image with buildah, and use them. Needs root.
check-image:
	scripts/setup.sh "$(PG_CONFIG)" buildah debootstrap
	scripts/test/image.sh

# Make the source archive of the last commit, for PGXN, in target/dist.
dist:
	mkdir -p target/dist
	git archive --prefix=pg_clip-$(VERSION)/ --output=target/dist/pg_clip-$(VERSION).zip HEAD

ready: setup
	+$(MAKE) all
	+$(SUDO) $(MAKE) install PG_CONFIG="$(PG_CONFIG_PATH)"

# Remove built and downloaded files.
clean:
	rm -rf target

# List the targets.
help:
	@awk '/^# /{text = substr($$0, 3)} /^[a-z-]+:/{if (text != "") {sub(":.*", ""); printf "make %-16s %s\n", $$0, text}; text = ""}' Makefile

.PHONY: all sql install uninstall setup openvino check demo gallery one test test-applications test-citus test-providers test-cuda test-cluster test-all test-full-size bench bench-quick deb test-deb check-image dist ready clean help
