package cdi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	"tags.cncf.io/container-device-interface/specs-go"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// DefaultDirs returns where vendors put their files; of two that define one device, that in the later directory
// rules.
func DefaultDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Bounds of what is read. The directories are root's, but a privileged device plug-in writes to them, and its
// mistake must not become ours. Real files have up to some 100 kB, and one for each claim or device at most.
const (
	maxFiles   = 1024    // of a directory
	maxFile    = 1 << 20 // bytes
	maxBytes   = 8 << 20 // of all files of a directory
	maxReason  = 300     // bytes that a message repeats of a file's error
	maxReasons = 3       // files that a message explains
)

// Edits are what a device's vendor wants done to each container that gets it.
type Edits struct {
	Device string // vendor/class=name
	specs.ContainerEdits
}

// device is one that a file defines.
type device struct {
	file  *file
	edits specs.ContainerEdits
}

// file is a CDI file.
type file struct {
	path string
	spec *specs.Spec
}

// Resolve reads the CDI files in dirs and returns what the named devices want, in the order of the names. What a
// file wants for all its devices stands once, with the first of them. A device that no file defines, or that two
// files of one directory define, is a refusal with NotFound, which also says which files could not be used.
func Resolve(dirs, names []string) ([]Edits, error) {
	known, unusable := load(dirs)
	var all []Edits
	var missing []string
	begun := map[*file]bool{}
	for _, name := range names {
		d, ok := known[name]
		if !ok {
			missing = append(missing, bounds.Quote(name))
			continue
		}
		if !begun[d.file] {
			begun[d.file] = true
			all = append(all, Edits{name, d.file.spec.ContainerEdits})
		}
		all = append(all, Edits{name, d.edits})
	}
	if len(missing) > 0 {
		return nil, unresolvable(missing, dirs, unusable)
	}
	return all, nil
}

// unresolvable words the refusal as containerd does, and adds where was looked and what was wrong there.
func unresolvable(missing, dirs []string, unusable []error) error {
	text := fmt.Sprintf("config.CDI_devices: unresolvable CDI devices %s: no file in %s defines them",
		strings.Join(missing[:min(len(missing), 8)], ", "), strings.Join(dirs, " or "))
	for i, err := range unusable {
		if i == maxReasons {
			text += fmt.Sprintf("; and %d more", len(unusable)-i)
			break
		}
		text += "; not used: " + bounds.Cut(err.Error(), maxReason)
	}
	return grpccode.Refused(codes.NotFound, "%s", text)
}

// load reads all files. What is wrong with some of them harms no device of the others.
func load(dirs []string) (known map[string]device, unusable []error) {
	known = map[string]device{}
	for _, dir := range dirs {
		paths, err := list(dir)
		if err != nil {
			unusable = append(unusable, err)
		}
		here := map[string]device{}
		twice := map[string]bool{}
		for left := int64(maxBytes); len(paths) > 0; paths = paths[1:] {
			path := paths[0]
			f, size, err := read(path, min(left, maxFile))
			left -= size
			if err != nil {
				unusable = append(unusable, fmt.Errorf("%s: %w", path, err))
				continue
			}
			for _, d := range f.spec.Devices {
				name := f.spec.Kind + "=" + d.Name
				if other, ok := here[name]; ok {
					unusable = append(unusable, fmt.Errorf("%s is in both %s and %s", name, other.file.path, path))
					twice[name] = true
				}
				here[name] = device{f, d.ContainerEdits}
			}
		}
		for name, d := range here {
			if known[name] = d; twice[name] {
				delete(known, name)
			}
		}
	}
	return known, unusable
}

// list returns the CDI files of a directory by name; a directory that does not exist has none.
func list(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxFiles + 1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && len(names) > maxFiles {
		err = fmt.Errorf("%s: more than %d files, some are not read", dir, maxFiles)
	}
	slices.Sort(names)
	var paths []string
	for _, name := range names {
		if ext := filepath.Ext(name); ext == ".json" || ext == ".yaml" {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths, err
}

// read reads and checks a file of at most limit bytes; size is how many were read. It may be a link; other than a
// regular file it may not be.
func read(path string, limit int64) (_ *file, size int64, err error) {
	at, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, 0, err
	}
	dir, name := filepath.Split(at)
	f, err := safefile.Open(dir, name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	text, err := safefile.Read(f, limit)
	size = int64(len(text))
	if err != nil {
		return nil, size, err
	}
	spec, err := cdi.ParseSpec(text)
	if err != nil {
		return nil, size, err
	}
	if err := check(spec); err != nil {
		return nil, size, err
	}
	return &file{path, spec}, size, nil
}

// check holds a file to the specification, as far as it concerns the devices in it.
func check(s *specs.Spec) error {
	if s == nil {
		return errors.New("is empty")
	}
	vendor, class := parser.ParseQualifier(s.Kind)
	if err := errors.Join(parser.ValidateVendorName(vendor), parser.ValidateClassName(class)); err != nil {
		return fmt.Errorf("kind %q: %w", s.Kind, err)
	}
	if err := (&cdi.ContainerEdits{ContainerEdits: &s.ContainerEdits}).Validate(); err != nil {
		return err
	}
	if len(s.Devices) == 0 {
		return errors.New("has no devices")
	}
	names := map[string]bool{}
	for _, d := range s.Devices {
		if err := checkDevice(d); err != nil {
			return fmt.Errorf("device %q: %w", d.Name, err)
		}
		if names[d.Name] {
			return fmt.Errorf("device %q is there twice", d.Name)
		}
		names[d.Name] = true
	}
	// Last: what has been checked is not nil, which this cannot bear in a list.
	return specs.ValidateVersion(s)
}

func checkDevice(d specs.Device) error {
	if err := parser.ValidateDeviceName(d.Name); err != nil {
		return err
	}
	if err := (&cdi.ContainerEdits{ContainerEdits: &d.ContainerEdits}).Validate(); err != nil {
		return err
	}
	if e := d.ContainerEdits; len(e.Env)+len(e.DeviceNodes)+len(e.NetDevices)+len(e.Hooks)+len(e.Mounts)+len(e.AdditionalGIDs) == 0 && e.IntelRdt == nil {
		return errors.New("changes nothing")
	}
	return nil
}
