// Package kernelparams has the kernel parameters of the machine that the kubelet wants for its pods, and
// which concern everything else on the machine too.
//
//	wanted ─▶ Differences ─▶ Set: write them, as the kubelet does
//	                      └─▶ an error, with protectKernelDefaults
package kernelparams

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/component-helpers/node/util/sysctl"
	"k8s.io/klog/v2"
)

// Proc is where the kernel shows its parameters.
const Proc = "/proc/sys"

// wanted are the kubelet's values, with what they are for.
var wanted = []struct {
	name  string // below Proc
	value int
}{
	{sysctl.VMOvercommitMemory, sysctl.VMOvercommitMemoryAlways}, // requests say what memory is given, not the kernel's guess
	{sysctl.VMPanicOnOOM, sysctl.VMPanicOnOOMInvokeOOMKiller},    // a process ends, not the machine
	{sysctl.KernelPanic, sysctl.KernelPanicRebootTimeout},        // seconds until a machine that has crashed starts again
	{sysctl.KernelPanicOnOops, sysctl.KernelPanicOnOopsAlways},   // a kernel with a fault is not trusted on
	{sysctl.RootMaxKeys, sysctl.RootMaxKeysSetting},              // runtimes take one key a container
	{sysctl.RootMaxBytes, sysctl.RootMaxBytesSetting},
}

// Difference is a parameter that is not as the kubelet wants it.
type Difference struct {
	Name            string // such as vm/overcommit_memory
	Wanted, Present int
}

// String says it in the kubelet's words.
func (d Difference) String() string {
	return fmt.Sprintf("invalid kernel flag: %s, expected value: %d, actual value: %d", d.Name, d.Wanted, d.Present)
}

// Differences compares the parameters in a directory, Proc, with those that are wanted. One that this kernel
// does not have is none; the error names those that cannot be read.
func Differences(dir string) ([]Difference, error) {
	var different []Difference
	var failed error
	for _, w := range wanted {
		text, err := os.ReadFile(filepath.Join(dir, w.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		present, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case parseErr != nil:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", w.name, parseErr))
		case present != w.value:
			different = append(different, Difference{w.name, w.value, present})
		}
	}
	return different, failed
}

// Check returns an error that names each parameter in the directory that is not as the kubelet wants it
// (protectKernelDefaults).
func Check(dir string) error {
	different, err := Differences(dir)
	for _, d := range different {
		err = errors.Join(err, errors.New(d.String()))
	}
	return err
}

// Set writes the parameters in the directory that are not as the kubelet wants them. The error names those
// that the host does not let be read or written; the others are set all the same. Idempotent.
func Set(dir string) error {
	different, failed := Differences(dir)
	for _, d := range different {
		// Not created: a parameter that the kernel does not have is no file.
		f, err := os.OpenFile(filepath.Join(dir, d.Name), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(d.Wanted))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%d instead of %d: %w", d.Wanted, d.Present, err))
			continue
		}
		klog.InfoS("Updated kernel parameter", "parameter", d.Name, "value", d.Wanted, "oldValue", d.Present)
	}
	return failed
}
