// Package resolvconf looks whether the host's resolver configuration fits into what pods can have of it, and tells
// the node's watchers when it does not.
package resolvconf

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criconfig"
)

// Reason is the node event's.
const Reason = "CheckLimitsForResolvConf"

// period is how often the file is looked at: one stat as long as it is the same. A stock kubelet looks at its
// start only.
const period = 30 * time.Second

// Watch tells when the file goes beyond the limits. Run it once.
type Watch struct {
	Path          string
	ClusterDomain string // takes three of the search paths that a pod can have
	Event         journal.NodeEvent
	Clock         clock.WithTicker
}

// Run looks at the file at once, and again when it is another one, until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	tick := w.Clock.NewTicker(period)
	defer tick.Stop()
	var seen os.FileInfo
	told := ""
	for {
		if is, err := os.Stat(w.Path); err != nil || seen == nil || !same(seen, is) {
			problem := check(w.Path, w.ClusterDomain)
			if problem != "" && problem != told {
				klog.InfoS("The node's resolver configuration goes beyond what pods can have", "problem", problem)
				w.Event.Warn(Reason, problem)
			}
			seen, told = is, problem
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		}
	}
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// check says what is wrong with the file, in the kubelet's words; "" if nothing is.
func check(path, clusterDomain string) string {
	text, err := criconfig.ReadResolvConf(path)
	if err != nil {
		return err.Error()
	}
	r, err := criconfig.ParseResolvConf(text)
	if err != nil {
		return err.Error()
	}
	return beyond(path, r.Searches, clusterDomain)
}

// beyond says which limit the search paths exceed.
func beyond(path string, searches []string, clusterDomain string) string {
	most := criconfig.MaxSearchPaths
	if clusterDomain != "" {
		most -= 3
	}
	if len(searches) > most {
		return fmt.Sprintf("Resolv.conf file '%s' contains search line consisting of more than %d domains!", path, most)
	}
	for _, s := range searches {
		if len(s) > criconfig.MaxSearchPathSize {
			return fmt.Sprintf("Resolv.conf file %q contains a search path which length is more than allowed %d chars!", path, criconfig.MaxSearchPathSize)
		}
	}
	if len(strings.Join(searches, " ")) > criconfig.MaxSearchLine {
		return fmt.Sprintf("Resolv.conf file '%s' contains search line which length is more than allowed %d chars!", path, criconfig.MaxSearchLine)
	}
	return ""
}
