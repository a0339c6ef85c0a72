package volume

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
)

// kind is one volume of one pod, of one type.
type kind interface {
	// setUp makes the volume or finds it made. Repeatable after a crash at any
	// point; it may hang where the kernel hangs, but ends between steps with ctx.
	setUp(ctx context.Context) error
	// path is where the volume lies once it is set up.
	path() Path
}

// kind returns the volume as what its source says it is, or why this node
// cannot have it. There is no other place that knows all types.
func (m *Manager) kind(pod *v1.Pod, v *v1.Volume) (kind, error) {
	dir := func(plugin string) (string, error) { return m.layout.volume(pod.UID, plugin, v.Name) }
	switch s := v.VolumeSource; {
	case s.EmptyDir != nil:
		d, err := dir("kubernetes.io/empty-dir")
		return &emptyDir{pod: pod, source: s.EmptyDir, dir: d, allocatable: m.allocatable}, err
	case s.HostPath != nil:
		return &hostPath{source: s.HostPath}, nil
	default:
		return nil, unsupported(&s)
	}
}

func unsupported(s *v1.VolumeSource) error {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			return fmt.Errorf("volumes of type %s are not supported by this node", v.Type().Field(i).Name)
		}
	}
	return errors.New("the volume names no source")
}
