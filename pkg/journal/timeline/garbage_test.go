package timeline

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// garbage makes events of bytes: their numbers, causes, times and kinds are whatever comes.
func garbage(data []byte) []journal.Shown {
	kinds := []string{"source", "change", "wake", "step", "plan", "hold", "cri", "docker", "engine", "list", "look", "podEvent", "probe", "status", "event", "timer", "volume", "", "no such kind"}
	texts := []string{"", "c", "StartContainer", "a\x1b[2J\nb", strings.Repeat("é", 5000), "phase Pending → Running", strings.Repeat("0", 64), "\xff\xfe", "Running"}
	var all []journal.Shown
	for len(data) >= 12 && len(all) < 300 {
		b := data[:12]
		data = data[12:]
		e := journal.Shown{
			Seq: uint64(b[0]), Cause: uint64(b[1]), Kind: kinds[int(b[2])%len(kinds)], Name: texts[int(b[3])%len(texts)], Reason: texts[int(b[4])%len(texts)], Detail: texts[int(b[5])%len(texts)],
			Time: time.Unix(int64(int8(b[6]))<<(b[7]%60), int64(b[7])), TookNS: int64(binary.LittleEndian.Uint32(b[8:12])) - 2, Count: uint32(b[9] % 3), Step: uint32(b[10]),
		}
		if b[6]%2 == 0 {
			e.UID, e.Pod, e.Namespace = "u", texts[int(b[7])%len(texts)], texts[int(b[8])%len(texts)]
		}
		if b[11]%4 == 0 {
			e.TookNS = -1 << (b[10] % 64)
		} else if b[11]%4 == 1 {
			e.TookNS = 1 << (b[10] % 63)
		}
		if e.Count > 1 {
			last := e.Time.Add(time.Duration(e.TookNS))
			e.Last = &last
		}
		if b[10]%5 == 0 {
			e.Error = texts[int(b[11])%len(texts)]
		}
		all = append(all, e)
	}
	return all
}

// Whatever a journal shows, there is a time line, which obeys no terminal, whose parts are its whole, and a trace that nests.
func FuzzTimeline(f *testing.F) {
	f.Add([]byte(nil), "c")
	f.Add([]byte("\x01\x02\x03\x00\x00\x00\x04\x00\xff\x00\x00\x00\x02\x01\x03\x00\x00\x00\x04\x00\xff\x00\x00\x00"), "") // each the other's cause
	f.Add([]byte("\x01\x01\x06\x00\x00\x00\x04\x00\xff\xff\xff\x00\x03\x01\x07\x00\x00\x00\x02\x3b\xff\xff\x3e\x01"), "c")
	f.Add([]byte(strings.Repeat("\x01\x02\x03\x04\x05\x06\x08\x07\x09\x0a\x0b\x0c", 20)), "")
	f.Fuzz(func(t *testing.T, data []byte, container string) {
		all := garbage(data)
		own := Of(all, "u")
		if len(own) > len(all) {
			t.Fatal("there are more than before")
		}
		for _, o := range []Options{{Now: time.Unix(1, 0)}, {Now: time.Unix(1, 0), Gone: true, Container: container, Gaps: 1, Since: time.Unix(0, 5)}, {Began: time.Unix(1<<40, 0)}} {
			line := New(own, "u", o)
			var sum time.Duration
			for _, p := range line.Parts {
				sum += p.Took
			}
			if sum != line.Total {
				t.Errorf("parts of %v, total %v: %+v", sum, line.Total, line.Parts)
			}
			var out strings.Builder
			if err := line.Write(&out); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(out.String(), "\x1b\r") || strings.Count(out.String(), "\n") > len(line.Lines)+2 {
				t.Errorf("%q", out.String())
			}
			for l := range strings.Lines(out.String()) {
				if len(l) > 16<<10 {
					t.Errorf("a line of %d bytes", len(l))
				}
			}
		}
		trace := Chrome(own, "u", time.Unix(1, 0))
		if what := overlap(trace); what != "" {
			t.Error(what)
		}
		if _, err := json.Marshal(trace); err != nil {
			t.Error(err)
		}
		for _, e := range all {
			if len(Chain(all, e.Seq)) > len(all) {
				t.Error("an endless chain")
			}
		}
		Find(all, "", container, "n")
	})
}

func TestAFullJournalOfOnePodIsShownSoon(t *testing.T) {
	at := time.Unix(1000, 0)
	var all []journal.Shown
	for i := range journal.Capacity {
		e := journal.Shown{Seq: uint64(i + 1), Cause: uint64(i), Kind: "step", UID: "u", Pod: "web", Time: at.Add(time.Duration(i) * time.Second), TookNS: int64(300 * time.Millisecond)}
		if i%2 == 1 { // a chain through all of them
			e.Kind, e.Name = "cri", "StartContainer"
		}
		all = append(all, e)
	}
	began := time.Now()
	line := New(Of(all, "u"), "u", Options{Now: at.Add(journal.Capacity * time.Second)})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(line.Lines) < journal.Capacity {
		t.Errorf("%d lines", len(line.Lines))
	}
}
