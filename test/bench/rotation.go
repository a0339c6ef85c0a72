package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods/actual"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/logrotate"
	"github.com/mini-kubelet/mini-kubelet/test/harness"
)

// rotatedMiB is what the container writes whose log is rotated at every 10 MiB.
const rotatedMiB = 256

// rotation has a container write as fast as Docker takes it, while its log is rotated.
func (m *criBench) rotation(res *criResults) {
	m.b.Logf("%d MiB of log, rotated ...", rotatedMiB)
	res.RotatedMiB = rotatedMiB
	plain := m.config
	defer func() { m.config = plain }()
	m.config = proto.Clone(plain).(*cri.PodSandboxConfig)
	id := m.config.Metadata
	m.config.LogDirectory = filepath.Join(m.dir, id.Namespace+"_"+id.Name+"_"+id.Uid)
	c := m.create([]string{"/bin/sh", "-c", fmt.Sprintf("yes %099d | head -c %d", 7, rotatedMiB<<20)})
	status := func() *cri.ContainerStatus {
		st, err := m.r.ContainerStatus(m.b.ctx, &cri.ContainerStatusRequest{ContainerId: c})
		if err != nil {
			m.b.Fatalf("container: %v", err)
		}
		return st.Status
	}
	log := status().LogPath
	view := []*actual.Pod{{UID: types.UID(id.Uid), Name: id.Name, Namespace: id.Namespace, Containers: []actual.Container{
		{ID: c, Name: filepath.Base(filepath.Dir(log)), State: actual.StateRunning},
	}}}
	listed := make(chan struct{})
	close(listed)
	rotator, err := logrotate.New(logrotate.Config{
		Runtime: m.r, Pods: func() []*actual.Pod { return view }, Listed: listed, Root: m.dir,
		Limits: logrotate.Limits{Size: 10 << 20, Files: 1000}, Workers: 1, Interval: 100 * time.Millisecond, Clock: clock.RealClock{},
	})
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	ctx, stop := context.WithCancel(m.b.ctx)
	ended := make(chan error, 1)
	res.RotatedTook = timed(func() {
		m.start(c)
		go func() { ended <- rotator.Run(ctx) }()
		harness.Eventually(m.b, "the container has ended", 2*harness.Patience, func() error {
			if s := status().State; s != cri.ContainerState_CONTAINER_EXITED {
				return fmt.Errorf("it is %v", s)
			}
			return nil
		})
	})
	stop()
	if err := <-ended; err != nil {
		m.b.Fatalf("rotation: %v", err)
	}
	lines, files, err := countLines(log)
	if err != nil {
		m.b.Fatalf("%v", err)
	}
	res.RotatedFiles, res.RotatedMissing = files, (rotatedMiB<<20+99)/100-lines
}

// countLines counts the lines of a log and of all that it was rotated to.
func countLines(log string) (lines, files int, err error) {
	names, err := filepath.Glob(log + "*")
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		plain, packed := strings.CutSuffix(name, ".gz")
		if _, err := os.Stat(plain); packed && err == nil || strings.HasSuffix(name, ".tmp") {
			continue // it was being compressed when the measurement ended
		}
		b, err := os.ReadFile(name)
		if packed && err == nil {
			var r *gzip.Reader
			if r, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
				b, err = io.ReadAll(r)
			}
		}
		if err != nil {
			return 0, 0, errors.Join(fmt.Errorf("count the lines of %s", name), err)
		}
		lines += bytes.Count(b, []byte("\n"))
		files++
	}
	return lines, files, nil
}
