package imageservice

import (
	"fmt"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
)

// pullMessage is one line of Docker's answer to a pull.
type pullMessage struct {
	ID             string `json:"id"`
	Status         string `json:"status"`
	Error          string `json:"error"`
	ProgressDetail struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
}

// progress follows a pull by Docker's messages.
//
//	layer: Pulling fs layer ▶ Waiting ▶ Downloading ▶ Verifying ▶ Download complete ▶ Extracting ▶ Pull complete
//	       └───────────── the network's work ──────┘  └──────────── this machine's work ───────────────────┘
type progress struct {
	layers map[string]layerProgress
	last   string
}

// layerProgress is what is known of a layer, or of another ID in Docker's messages.
type layerProgress struct {
	pullMessage
	size, done int64 // bytes, as the registry has them; size 0: not known
}

// What a registry says of an image has no bound but these: how many layers are followed, and how large one can be.
const (
	maxFollowed  = 4096
	maxLayerSize = 1 << 50
)

// layerState is what becomes of a layer, by the beginning of Docker's words for it.
type layerState int

const (
	noLayer  layerState = iota // it is about something else
	coming                     // from the network
	checking                   // it has come
	here
	unpacking
	ready
)

var layerStates = []struct {
	status string
	state  layerState
}{
	{"Pulling fs layer", coming}, {"Waiting", coming}, {"Downloading", coming}, {"Retrying", coming},
	{"Verifying", checking}, {"Download complete", here}, {"Extracting", unpacking}, {"Pull complete", ready}, {"Already exists", ready},
}

func (m *pullMessage) state() layerState {
	for _, s := range layerStates {
		if strings.HasPrefix(m.Status, s.status) {
			return s.state
		}
	}
	return noLayer
}

// see takes a message and reports whether it shows anything new. Docker repeats itself while it
// waits; a repetition is not progress.
func (p *progress) see(m pullMessage) (moved bool) {
	if p.layers == nil {
		p.layers = map[string]layerProgress{}
	}
	l, known := p.layers[m.ID]
	if known && l.pullMessage == m {
		return false
	}
	if !known && len(p.layers) >= maxFollowed {
		return false
	}
	l.follow(m)
	p.layers[m.ID] = l
	p.last = m.Status
	if m.ID != "" {
		p.last = m.ID + ": " + m.Status
	}
	if m.ProgressDetail.Total > 0 {
		p.last += fmt.Sprintf(" %d of %d bytes", m.ProgressDetail.Current, m.ProgressDetail.Total)
	}
	return true
}

// follow takes in what Docker says of the layer.
func (l *layerProgress) follow(m pullMessage) {
	l.pullMessage = m
	at, total, state := m.ProgressDetail.Current, m.ProgressDetail.Total, m.state()
	if downloading := strings.HasPrefix(m.Status, "Downloading"); (downloading || l.size == 0) && total > 0 && total <= maxLayerSize {
		l.size = total
	}
	switch {
	case state > coming:
		l.done = l.size
	case state == coming:
		l.done = min(max(0, at), l.size)
	}
}

// far returns how far the pull is.
func (p *progress) far() docker.Progress {
	var far docker.Progress
	for _, l := range p.layers {
		state := l.state()
		if state == noLayer {
			continue
		}
		far.Known++
		far.Done += l.done
		far.Total += l.size
		far.More = far.More || state == coming && l.size == 0
		if state == ready {
			far.Ready++
		}
	}
	return far
}

// local reports whether the pull waits for this machine rather than for the network: a layer is
// being checked or unpacked, or all of them have arrived. Docker says nothing while it writes
// the end of a big layer to a slow disk, so that silence does not mean a stalled pull then.
func (p *progress) local() bool {
	layers, there := 0, 0
	for _, l := range p.layers {
		switch l.state() {
		case unpacking, checking:
			return true
		case coming:
			layers++
		case here, ready:
			layers++
			there++
		}
	}
	return layers > 0 && layers == there
}
