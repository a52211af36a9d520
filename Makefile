# Keel: every command a person types. `make help` lists them; each installs the tools that it needs and doesn't find.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help kernel iso run usb debug bochs test test-matrix lint bench clean

# Options that a command passes on to its script. `make iso OVERLAY=dir CMDLINE="quiet"` reads like its documentation.
export OVERLAY CMDLINE ROOTFS SCREEN GUI SMP MEM KVM UEFI DEVICE ONLY JOBS BASE LINUX CPU

OUT ?= iso/keel.iso
KERNEL := target/x86_64-kernel/release/keel.elf

help: ## Show this list
	@echo "Keel. Commands, each with the options it knows:"
	@awk -F ': *[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 } /^##  / { print "                     " substr($$0, 5) }' Makefile
	@echo "Start with: make run"

run: iso ## Start Keel in QEMU, its serial console in this terminal (Ctrl-A X leaves)
##  GUI=1 a window too, SMP=n CPUs, MEM=m MiB of memory, CPU=model, UEFI=1, KVM=1 (falls back when KVM doesn't work)
	@tools/run-qemu $(OUT) $(KERNEL)

iso: kernel ## Make the image that starts from CD, disk and USB stick, on BIOS and UEFI
##  OUT=file (iso/keel.iso), OVERLAY=folder laid over the initrd's root, CMDLINE="kernel command line",
##  ROOTFS=debian (Debian's BusyBox and bash as the root), SCREEN=text (the old text screen instead of pixels)
	@tools/make-iso $(KERNEL) $(OUT)

usb: iso ## Write the image to a USB stick, after asking: DEVICE=/dev/sdX
	@tools/write-usb $(OUT)

debug: iso ## Start Keel in QEMU, stopped at kernel_main, with gdb attached
##  GDB="gdb -batch -ex …" replaces the debugger's command
	@tools/debug $(OUT) $(KERNEL)

bochs: iso ## Start Keel in Bochs, which is stricter than QEMU: CPU=athlon64_clawhammer, MEM=m
	@tools/run-bochs $(OUT)

test: ## Run every test: unit tests, in-kernel tests, programs against Linux, six of the boot matrix
##  ONLY=word runs the tests whose name holds the word, JOBS=n at a time
	@tools/test

test-matrix: ## Boot the image on every machine of the matrix, in QEMU and in Bochs
	@tools/test matrix

lint: ## Check formatting and lints of every crate, warnings denied
	@tools/lint

bench: kernel ## Count guest instructions of each operation, beside Linux's: BASE=bench.tsv of an earlier run compares
##  LINUX=0 leaves Linux out, LINUX=package takes another kernel of Debian's, KVM=1 measures time where KVM works
	@tools/bench $(KERNEL)

clean: ## Remove everything that was built
	@rm -rf target tests/target user/target user/build fuzz/target
	@find iso -mindepth 1 ! -name README.md -delete

kernel: ## Build the kernel alone
	@tools/cargo build --release --quiet
