package pause

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

var unsigned = regexp.MustCompile(`\.\+0xf{8}[0-9a-f]{8}`)

// listing disassembles the program with somebody else's tables.
func listing(t *testing.T, arch string) []string {
	t.Helper()
	program, err := Program(arch)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	load := f.Progs[0]
	image, err := io.ReadAll(load.Open())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for at := f.Entry; at < load.Vaddr+load.Memsz; {
		code := image[at-load.Vaddr:]
		if arch == "arm64" {
			in, err := arm64asm.Decode(code)
			if err != nil {
				t.Fatalf("at %x: %v", at, err)
			}
			// The library writes distances as unsigned numbers.
			lines = append(lines, unsigned.ReplaceAllStringFunc(arm64asm.GNUSyntax(in), func(s string) string {
				v, err := strconv.ParseUint(s[len(".+0x"):], 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf(".-%#x", -v)
			}))
			at += 4
			continue
		}
		in, err := x86asm.Decode(code, 64)
		if err != nil {
			t.Fatalf("at %x: %v", at, err)
		}
		lines = append(lines, x86asm.IntelSyntax(in, at, nil))
		at += uint64(in.Len)
	}
	return lines
}

func TestMachineCodeMakesTheSystemCalls(t *testing.T) {
	want := map[string][]string{
		"amd64": {
			"mov edi, 0x0", "lea rsi, ptr [rip+0xffffffcc]", "mov edx, 0x0", "mov r10d, 0x8", "mov eax, 0xe", "syscall",
			"mov edi, 0x11", "lea rsi, ptr [rip+0xffffffb6]", "mov edx, 0x0", "mov r10d, 0x8", "mov eax, 0xd", "syscall",
			"lea rdi, ptr [rip+0xffffff95]", "mov esi, 0x0", "mov edx, 0x0", "mov r10d, 0x8", "mov eax, 0x80", "syscall",
			"cmp eax, -0x4", "jz 0x400114",
			"mov edi, eax", "shr edi, 0x1f", "mov eax, 0xe7", "syscall",
		},
		"arm64": {
			"mov x0, #0x0", "adr x1, .-0x2c", "mov x2, #0x0", "mov x3, #0x8", "mov x8, #0x87", "svc #0x0",
			"mov x0, #0x11", "adr x1, .-0x3c", "mov x2, #0x0", "mov x3, #0x8", "mov x8, #0x86", "svc #0x0",
			"adr x0, .-0x58", "mov x1, #0x0", "mov x2, #0x0", "mov x3, #0x8", "mov x8, #0x89", "svc #0x0",
			"cmn w0, #0x4", "b.eq .-0x1c",
			"lsr w0, w0, #31", "mov x8, #0x5e", "svc #0x0",
		},
	}
	for arch, want := range want {
		t.Run(arch, func(t *testing.T) {
			if got := listing(t, arch); !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestProgramIsASmallStaticExecutable(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program, err := Program(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		load, stack := f.Progs[0], f.Progs[1]
		if f.Machine != machine || f.Type != elf.ET_EXEC || load.Flags != elf.PF_R|elf.PF_X || load.Filesz != uint64(len(program)) || stack.Type != elf.PT_GNU_STACK || stack.Flags != elf.PF_R|elf.PF_W {
			t.Errorf("%s: %v %v %+v %+v", arch, f.Machine, f.Type, load, stack)
		}
		if len(program) > 512 {
			t.Errorf("%s: %d bytes", arch, len(program))
		}
	}
	if _, err := Program("riscv64"); err == nil {
		t.Error("a program for riscv64")
	}
}

func TestProgramEndsOnSignals(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			program, err := Program(arch)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "pause")
			if err := os.WriteFile(path, program, 0o755); err != nil {
				t.Fatal(err)
			}
			command := []string{path}
			if arch != runtime.GOARCH {
				qemu, err := exec.LookPath(map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}[arch])
				if err != nil {
					t.Skipf("no emulator for %s (Debian: qemu-user-static): %v", arch, err)
				}
				command = []string{qemu, path}
			}
			for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
				cmd := exec.Command(command[0], command[1:]...)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- cmd.Wait() }()
				waitReady(t, cmd.Process.Pid)
				// Stopped and continued, it goes on waiting.
				for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
					if err := cmd.Process.Signal(s); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-done:
					// A process that does not handle the signal dies of it instead.
					if err != nil {
						t.Errorf("%v: %v", sig, err)
					}
					t.Logf("%v: ended after %v", sig, time.Since(began))
				case <-time.After(time.Minute):
					_ = cmd.Process.Kill()
					t.Fatalf("%v: still there", sig)
				}
			}
		})
	}
}

// waitReady waits until the process ignores SIGCHLD, which it does last, and sleeps.
// That it blocks signals does not show: while it waits for them the kernel lets
// them through.
func waitReady(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		fields := procStatus(t, pid)
		// Others may have been ignored before: under nohup SIGHUP is.
		ignored, err := strconv.ParseUint(fields["SigIgn"], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if ignored&(1<<(syscall.SIGCHLD-1)) != 0 && strings.HasPrefix(fields["State"], "S") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %v", fields)
		}
	}
}
