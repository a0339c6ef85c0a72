package nodepressure

import (
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/machine"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/memcg"
)

// Node says where signals are read. Images and Layers may be "": not known, or the same as before.
type Node struct {
	Root   string // a directory on the node's file system
	Images string // on that of the images
	Layers string // on that of the writable layers
	// PodsCgroup is the cgroup of all pods, by its path below the root of all cgroups; "" if pods have none.
	PodsCgroup string
}

// observer reads what is left on a node.
type observer struct{ node Node }

// all reads every signal. What cannot be read is left out.
func (o observer) all(now time.Time) observations {
	seen := o.memory(now)
	file := func(path string, space, nodes options.Signal) {
		fs, err := machine.ReadFileSystem(path)
		if err != nil {
			return
		}
		seen[space] = observation{fs.Free, fs.Size, now}
		if fs.Inodes > 0 { // some file systems do not count them
			seen[nodes] = observation{fs.FreeInodes, fs.Inodes, now}
		}
	}
	file(o.node.Root, options.NodefsAvailable, options.NodefsInodesFree)
	file(o.images(), options.ImagefsAvailable, options.ImagefsInodesFree)
	file(o.layers(), options.ContainerfsAvailable, options.ContainerfsInodesFree)
	if running, most, ok := machine.Processes(); ok {
		seen[options.PIDAvailable] = observation{most - running, most, now}
	}
	return seen
}

// memory reads the signals of memory.
func (o observer) memory(now time.Time) observations {
	seen := observations{}
	if m, err := machine.ReadMemory(); err == nil {
		seen[options.MemoryAvailable] = observation{m.Available(), m.Total, now}
	}
	if o.node.PodsCgroup != "" {
		// Without a limit, nothing says what is available.
		if u, err := memcg.Of(o.node.PodsCgroup).Read(); err == nil && u.Limit > 0 {
			seen[options.AllocatableMemoryAvailable] = observation{max(u.Limit-u.WorkingSet(), 0), u.Limit, now}
		}
	}
	return seen
}

func (o observer) images() string {
	if o.node.Images == "" {
		return o.node.Root
	}
	return o.node.Images
}

func (o observer) layers() string {
	if o.node.Layers == "" {
		return o.images()
	}
	return o.node.Layers
}

// canRead reports whether all of the file systems are there.
func (o observer) canRead() bool {
	for _, path := range []string{o.node.Root, o.images(), o.layers()} {
		if _, err := machine.ReadFileSystem(path); err != nil {
			return false
		}
	}
	return true
}

// layout finds out which of the file systems are the same.
func (o observer) layout() layout {
	device := func(path string) uint64 {
		fs, err := machine.ReadFileSystem(path)
		if err != nil {
			return 0
		}
		return fs.Device
	}
	root, images, layers := device(o.node.Root), device(o.images()), device(o.layers())
	if images == 0 || images == root {
		return layout{}
	}
	return layout{images: true, split: layers != 0 && layers != images}
}
