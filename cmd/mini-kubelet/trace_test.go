package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

// shownJournal is of a pod that runs, of one of the same name before it, and of one that is gone.
func shownJournal() []journal.Shown {
	at := time.Now().Add(-time.Hour)
	var all []journal.Shown
	add := func(after time.Duration, e journal.Shown) {
		e.Seq = uint64(len(all) + 1)
		e.Version, e.Time = e.Seq, at.Add(after)
		switch e.UID {
		case "new", "old":
			e.Namespace, e.Pod = "shop", "web-n1"
		case "gone":
			e.Namespace, e.Pod = "shop", "was-n1"
		}
		all = append(all, e)
	}
	add(0, journal.Shown{Kind: "source", Name: "web.yaml", Reason: "read", TookNS: 1e6})
	add(2*time.Millisecond, journal.Shown{Kind: "change", UID: "old", Cause: 1, Reason: "ADD", Name: "file"})
	add(2*time.Millisecond, journal.Shown{Kind: "change", UID: "gone", Cause: 1, Reason: "ADD", Name: "file"})
	add(20*time.Millisecond, journal.Shown{Kind: "source", Name: "web.yaml", Reason: "read", TookNS: 1e6})
	add(22*time.Millisecond, journal.Shown{Kind: "change", UID: "new", Cause: 4, Reason: "ADD", Name: "file"})
	add(23*time.Millisecond, journal.Shown{Kind: "step", UID: "new", Cause: 5, Step: 7, Reason: "syncing", TookNS: 50e6})
	add(24*time.Millisecond, journal.Shown{Kind: "cri", UID: "new", Cause: 6, Name: "StartContainer", Detail: "a\x1b[2J", TookNS: 40e6})
	add(72*time.Millisecond, journal.Shown{Kind: "status", UID: "new", Cause: 6, Reason: "Running", Detail: "phase Pending → Running"})
	return all
}

// journalStub answers as an agent with that journal and these pods; ?watch=true gets some more of it, and then the agent ends.
func journalStub(t *testing.T, more ...journal.Shown) string {
	list := &v1.PodList{Items: []v1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-n1", UID: "new", Annotations: map[string]string{pods.AnnotationConfigSource: pods.SourceFile}},
		Spec:       v1.PodSpec{NodeName: "n1"},
	}}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := json.NewEncoder(w)
		switch {
		case r.URL.Path == "/pods":
			_ = out.Encode(list)
		case r.URL.Path == server.JournalPath && r.URL.Query().Get("watch") == "true":
			if from := r.URL.Query().Get("from"); from != "8" {
				t.Errorf("from %q", from)
			}
			for _, e := range more {
				_ = out.Encode(e)
			}
		case r.URL.Path == server.JournalPath:
			for _, e := range shownJournal() {
				_ = out.Encode(e)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestTraceCommand(t *testing.T) {
	url := journalStub(t)
	for name, tt := range map[string]struct {
		args     []string
		has, not []string
	}{
		"a time line": {[]string{"web"},
			[]string{"web-n1 (shop) new  52 ms from file to Running\n", "file             web.yaml · read", "│ CRI            StartContainer a\\u001b[2J", "step 7 done", "▁▁▁ until it ran: 77 % CRI StartContainer"}, []string{"gone", "old"}},
		"by UID":        {[]string{"old"}, []string{"web-n1 (shop) old", "ADD · file"}, []string{"StartContainer"}},
		"one that went": {[]string{"was"}, []string{"was-n1 (shop) gone  2.0 ms from file to its end; it was not seen to be Running"}, []string{"StartContainer"}},
		"only waits":    {[]string{"web", "--gaps", "1ns"}, []string{"┄ wait", "▁▁▁"}, []string{"step 7"}},
		"since":         {[]string{"web", "--since", "1s"}, []string{"to Running"}, []string{"step 7"}},
		"JSON":          {[]string{"web", "-o", "json"}, []string{`"kind": "source"`, `"seq": 8`}, []string{`"uid": "old"`, `"uid": "gone"`}},
		"Chrome":        {[]string{"web", "-o", "chrome"}, []string{`"traceEvents":[`, `"ph":"X"`, `"args":{"name":"CRI"}`}, []string{"gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, code := command(t, append([]string{"trace", "--server", url}, tt.args...)...)
			if code != 0 {
				t.Fatalf("%d %s", code, errOut)
			}
			for _, want := range tt.has {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(out, not) {
					t.Errorf("%q in\n%s", not, out)
				}
			}
			if strings.Contains(out, "\x1b") {
				t.Errorf("%q", out)
			}
			if tt.args[0] == "web" && errOut != "There were others of this name: old\n" {
				t.Errorf("of others it says %q", errOut)
			}
		})
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"unknown pod":     {[]string{"absent"}, `the agent has no pod "absent"`},
		"other namespace": {[]string{"web", "-n", "other"}, `in namespace "other"`},
		"negative gaps":   {[]string{"web", "--gaps", "-1s"}, "--gaps -1s: want a positive duration"},
		"follow as JSON":  {[]string{"web", "-f", "-o", "json"}, "--follow prints lines: leave out -o"},
		"part as JSON":    {[]string{"web", "-c", "c", "-o", "json"}, "-o json prints all steps"},
		"since when":      {[]string{"web", "--since", "yesterday"}, "--since: want a duration like 5m"},
		"since the next":  {[]string{"web", "--since", "-5m"}, "--since: want a duration like 5m"},
		"unknown form":    {[]string{"web", "-o", "yaml"}, "want one of json, chrome"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, code := command(t, append([]string{"trace", "--server", url}, tt.args...)...)
			if code != 1 || out != "" || !strings.Contains(errOut, tt.want) || strings.Count(errOut, "\n") != 1 {
				t.Errorf("%d %q %q, want one line with %q", code, out, errOut, tt.want)
			}
		})
	}
}

func TestTraceFollows(t *testing.T) {
	now := time.Now()
	url := journalStub(t,
		journal.Shown{Seq: 9, Version: 9, Time: now, Kind: "engine", UID: "new", Namespace: "shop", Pod: "web-n1"},
		journal.Shown{Seq: 10, Version: 10, Time: now, Kind: "step", UID: "new", Cause: 9, Step: 8, Reason: "syncing", TookNS: -1},
		journal.Shown{Seq: 11, Version: 11, Time: now, Kind: "cri", UID: "new", Cause: 10, Name: "RemoveContainer", TookNS: -1},
		journal.Shown{Seq: 12, Version: 12, Time: now, Kind: "engine", UID: "gone", Namespace: "shop", Pod: "was-n1", Reason: "another's"},
		journal.Shown{Seq: 11, Version: 13, Time: now, Kind: "cri", UID: "new", Cause: 10, Name: "RemoveContainer", TookNS: 3e6},
	)
	out, errOut, code := command(t, "trace", "-f", "--server", url, "web")
	if code != 1 || !strings.Contains(errOut, "the agent has ended") {
		t.Errorf("%d %q", code, errOut)
	}
	for text, times := range map[string]int{"to Running\n": 1, "step 7 done": 1, "the runtime's event": 1, "step 8 · syncing": 1, "step 8 done": 0, "RemoveContainer": 1, "3.0 ms\n": 1, "another's": 0} {
		if got := strings.Count(out, text); got != times {
			t.Errorf("%q is there %d times, want %d:\n%s", text, got, times, out)
		}
	}
}

func TestWhatIsFollowedIsBounded(t *testing.T) {
	var events []journal.Shown
	for i := range 5 * journal.Capacity {
		events = remember(events, journal.Shown{Seq: uint64(i + 1)})
		if i%3 == 0 {
			events = remember(events, journal.Shown{Seq: uint64(i + 1), Name: "changed"})
		}
	}
	if len(events) < journal.Capacity || len(events) > 2*journal.Capacity {
		t.Fatalf("%d events", len(events))
	}
	for i := range events[1:] {
		if events[i].Seq+1 != events[i+1].Seq || (events[i].Name == "changed") != (events[i].Seq%3 == 1) {
			t.Fatal(fmt.Sprint(events[i], events[i+1]))
		}
	}
}
