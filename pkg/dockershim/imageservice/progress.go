package imageservice

import (
	"fmt"
	"strings"
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
	layers map[string]pullMessage
	last   string
}

// see takes a message and reports whether it shows anything new. Docker repeats itself while it
// waits; a repetition is not progress.
func (p *progress) see(m pullMessage) (moved bool) {
	if p.layers == nil {
		p.layers = map[string]pullMessage{}
	}
	before, known := p.layers[m.ID]
	if known && before == m {
		return false
	}
	p.layers[m.ID] = m
	p.last = m.Status
	if m.ID != "" {
		p.last = m.ID + ": " + m.Status
	}
	if m.ProgressDetail.Total > 0 {
		p.last += fmt.Sprintf(" %d of %d bytes", m.ProgressDetail.Current, m.ProgressDetail.Total)
	}
	return true
}

// local reports whether the pull waits for this machine rather than for the network: a layer is
// being checked or unpacked, or all of them have arrived. Docker says nothing while it writes
// the end of a big layer to a slow disk, so that silence does not mean a stalled pull then.
func (p *progress) local() bool {
	layers, there := 0, 0
	for id, m := range p.layers {
		switch {
		case strings.HasPrefix(m.Status, "Extracting"), strings.HasPrefix(m.Status, "Verifying"):
			return true
		case strings.HasPrefix(m.Status, "Pulling fs layer"), strings.HasPrefix(m.Status, "Waiting"),
			strings.HasPrefix(m.Status, "Downloading"), strings.HasPrefix(m.Status, "Retrying"):
			layers++
		case strings.HasPrefix(m.Status, "Download complete"), strings.HasPrefix(m.Status, "Pull complete"),
			strings.HasPrefix(m.Status, "Already exists") && id != "":
			layers++
			there++
		}
	}
	return layers > 0 && layers == there
}
