package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// scripted is a driver whose only plug-in answers to ADD with what the file "answer" holds, and
// writes down with what it was called.
type scripted struct {
	t   *testing.T
	dir string
	*Driver
}

const someResult = `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.99.0.2/24","interface":0}]}`

func newScripted(t *testing.T, version string) *scripted {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "conf"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := `#!/bin/sh
cat >'` + dir + `/stdin'
echo "$CNI_COMMAND $CNI_CONTAINERID" >>'` + dir + `/calls'
[ "$CNI_COMMAND" != ADD ] || cat '` + dir + `/answer'
`
	if err := os.WriteFile(filepath.Join(dir, "bin", "scripted"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`{"cniVersion":%q,"name":"n","plugins":[{"type":"scripted"},{"type":"scripted"}]}`, version)
	if err := os.WriteFile(filepath.Join(dir, "conf", "10.conflist"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &scripted{t: t, dir: dir}
	s.restart()
	return s
}

// restart makes a driver that knows only what is on disk.
func (s *scripted) restart() {
	s.t.Helper()
	var err error
	s.Driver, err = New(Config{
		Network: NewDir(filepath.Join(s.dir, "conf")), BinDirs: []string{filepath.Join(s.dir, "bin")},
		CacheDir: filepath.Join(s.dir, "cache"), StateDir: filepath.Join(s.dir, "records"),
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scripted) answer(text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "answer"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// calls returns the calls since the last time.
func (s *scripted) calls() []string {
	s.t.Helper()
	path := filepath.Join(s.dir, "calls")
	text, _ := os.ReadFile(path)
	_ = os.Remove(path)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func (s *scripted) add() (Result, error) {
	return s.Add(s.t.Context(), sandbox(a), "/proc/self/ns/net")
}

// left fails if there is anything on disk about a sandbox.
func (s *scripted) left() {
	s.t.Helper()
	for _, dir := range []string{"records", "cache/results"} {
		if entries, _ := os.ReadDir(filepath.Join(s.dir, dir)); len(entries) > 0 {
			s.t.Errorf("left in %s: %v", dir, entries)
		}
	}
}

// badResults are answers to an ADD that name no address that a pod could have.
var badResults = map[string]string{
	"null interface":     `{"cniVersion":%q,"interfaces":[null],"ips":[{"version":"4","address":"10.99.0.2/24","interface":0}]}`,
	"null address":       `{"cniVersion":%q,"ips":[null]}`,
	"null among others":  `{"cniVersion":%q,"ips":[{"version":"4","address":"10.99.0.2/24"},null]}`,
	"null route":         `{"cniVersion":%q,"ips":[{"version":"4","address":"10.99.0.2/24"}],"routes":[null]}`,
	"empty address":      `{"cniVersion":%q,"ips":[{}]}`,
	"address null":       `{"cniVersion":%q,"ips":[{"version":"4","address":null}]}`,
	"interface missing":  `{"cniVersion":%q,"ips":[{"version":"4","address":"10.99.0.2/24","interface":0}]}`,
	"negative interface": `{"cniVersion":%q,"interfaces":[{"name":"a","sandbox":"/x"}],"ips":[{"version":"4","address":"10.99.0.2/24","interface":-1}]}`,
	"on the host":        `{"cniVersion":%q,"interfaces":[{"name":"a"}],"ips":[{"version":"4","address":"10.99.0.2/24","interface":0}]}`,
	"no address":         `{"cniVersion":%q}`,
	"null":               `null%.0s`,
	"a list":             `[%q]`,
	"nothing":            `%.0s`,
	"no JSON":            `{"cniVersion":%q,"ips":`,
	"other types":        `{"cniVersion":%q,"ips":{"a":1},"interfaces":"x"}`,
}

func TestAnAnswerThatCannotBeUsedIsRefusedAndLeavesNothing(t *testing.T) {
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0"} {
		s := newScripted(t, version)
		for name, format := range badResults {
			t.Run(version+"/"+name, func(t *testing.T) {
				s.t = t
				s.answer(fmt.Sprintf(format, version))
				res, err := s.add()
				if err == nil || strings.Contains(err.Error(), "panic") {
					t.Errorf("got %v, %v; want an error in plain words", res, err)
				}
				if calls := s.calls(); !slices.Contains(calls, "DEL "+a) {
					t.Errorf("nothing was undone: %v", calls)
				}
				s.left()
			})
		}
		s.t = t
		s.answer(fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"version":"4","address":"10.99.0.2/24","interface":0}]}`, version))
		if res, err := s.add(); err != nil || !slices.Equal(res.IPs, []string{"10.99.0.2"}) {
			t.Errorf("once the plug-in is mended: %v, %v", res, err)
		}
	}
}

func TestAnAnswerHasBounds(t *testing.T) {
	s := newScripted(t, "1.0.0")
	many := strings.Repeat(`{"address":"10.99.0.2/24"},`, maxEntries) + `{"address":"10.99.0.2/24"}`
	for _, text := range []string{
		`{"cniVersion":"1.0.0","ips":[` + many + `]}`,
		someResult + strings.Repeat(" ", maxOutput),
	} {
		s.answer(text)
		if _, err := s.add(); err == nil {
			t.Errorf("an answer of %d bytes was taken", len(text))
		}
	}
	s.left()
}

// What is on disk of an attachment may be anything. The plug-ins are called all the same, with
// whatever else is known, and nothing stays.
func TestADamagedRecordDoesNotHoldUpItsSandbox(t *testing.T) {
	record := func(config, result string) string {
		return `{"sandbox":{"id":"` + a + `","name":"web","namespace":"default","uid":"u"},"config":` + config + `,"result":` + result + `}`
	}
	const config = `{"cniVersion":"0.4.0","name":"n","plugins":[{"type":"scripted"}]}`
	for name, text := range map[string]string{
		"null interface":     record(config, `{"cniVersion":"1.0.0","interfaces":[null],"ips":[{"address":"10.99.0.2/24","interface":0}]}`),
		"null address":       record(config, `{"cniVersion":"1.0.0","ips":[null]}`),
		"result null":        record(config, `null`),
		"result a text":      record(config, `"x"`),
		"torn":               record(config, "")[:90],
		"empty":              "",
		"about another":      strings.ReplaceAll(record(config, `null`), a, keep),
		"config null":        record(`null`, `null`),
		"config no object":   record(`[1]`, `null`),
		"no plug-ins":        record(`{"cniVersion":"0.4.0","name":"n","plugins":[]}`, `null`),
		"plug-in null":       record(`{"cniVersion":"0.4.0","name":"n","plugins":[null]}`, `null`),
		"network is a path":  record(`{"cniVersion":"0.4.0","name":"../../n","plugins":[{"type":"scripted"}]}`, `null`),
		"plug-in is a path":  record(`{"cniVersion":"0.4.0","name":"n","plugins":[]}`, `null`),
		"no network version": record(`{"cniVersion":7,"name":"n","plugins":[{"type":"scripted"}]}`, `null`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t, "0.4.0")
			path := filepath.Join(s.dir, "records", a+".json")
			for _, cached := range []bool{true, false} {
				s.answer(`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.99.0.2/24"}]}`)
				if _, err := s.add(); err != nil {
					t.Fatal(err)
				}
				if !cached { // libcni has lost its copy too
					if err := os.RemoveAll(filepath.Join(s.dir, "cache")); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				s.restart()
				s.calls()
				if res, ok, err := s.Result(a); ok || err != nil {
					t.Errorf("the sandbox is attached with %v", res)
				}
				_ = s.Check(t.Context(), a, "")
				if err := s.Reconcile(t.Context(), func(string) bool { return false }); err != nil {
					t.Error(err)
				}
				if calls := s.calls(); !slices.Contains(calls, "DEL "+a) {
					t.Errorf("cached %v: no plug-in was told: %v", cached, calls)
				}
				s.left()
			}
		})
	}
}

// A sandbox that is to be attached again over a record that is damaged is.
func TestAddOverADamagedRecord(t *testing.T) {
	s := newScripted(t, "1.0.0")
	s.answer(someResult)
	if err := os.MkdirAll(filepath.Join(s.dir, "records"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := `{"sandbox":{"id":"` + a + `"},"config":{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"scripted"}]},"result":{"ips":[null]}}`
	if err := os.WriteFile(filepath.Join(s.dir, "records", a+".json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err := s.add(); err != nil || len(res.IPs) != 1 {
		t.Errorf("got %v, %v", res, err)
	}
	if calls := s.calls(); calls[0] != "DEL "+a {
		t.Errorf("calls %v, want a DEL first", calls)
	}
}

// libcni keeps results too, and gives them to plug-ins at DEL.
func TestADamagedCacheDoesNotReachPlugins(t *testing.T) {
	s := newScripted(t, "0.4.0")
	s.answer(`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.99.0.2/24"}]}`)
	if _, err := s.add(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "cache/results/*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	// A result of CNI 1.0 is converted when it is read.
	damaged := strings.Replace(string(text), `"result":{`, `"result":{"cniVersion":"1.0.0","interfaces":[null],"ips":[null],"old":{`, 1)
	if err := os.WriteFile(files[0], []byte(damaged+"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.calls()
	if err := s.Del(t.Context(), a, ""); err != nil {
		t.Error(err)
	}
	if calls := s.calls(); len(calls) != 2 {
		t.Errorf("calls %v, want DEL of two plug-ins", calls)
	}
	if stdin, err := os.ReadFile(filepath.Join(s.dir, "stdin")); err != nil || strings.Contains(string(stdin), "prevResult") {
		t.Errorf("the plug-in got %s, %v", stdin, err)
	}
	s.left()
}

func TestCancelledDelKeepsADamagedRecord(t *testing.T) {
	s := newScripted(t, "1.0.0")
	if err := os.MkdirAll(filepath.Join(s.dir, "records"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "records", a+".json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Del(ctx, a, ""); err == nil {
		t.Error("no error")
	}
	if ids, _ := s.records.ids(); len(ids) != 1 {
		t.Errorf("records %v", ids)
	}
}

// Before the network's configuration has come, as at boot, there is nothing to call for a damaged
// record. It holds up nobody, and is not lost.
func TestADamagedRecordWaitsForTheNetwork(t *testing.T) {
	s := newScripted(t, "1.0.0")
	conf := filepath.Join(s.dir, "conf", "10.conflist")
	if err := errors.Join(os.Rename(conf, conf+".later"), os.Mkdir(filepath.Join(s.dir, "records"), 0o700),
		os.WriteFile(filepath.Join(s.dir, "records", a+".json"), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.restart()
	gone := func(string) bool { return false }
	if err := s.Reconcile(t.Context(), gone); err == nil {
		t.Error("Reconcile has no error, and would not be called again")
	}
	if err := s.Del(t.Context(), a, ""); err != nil {
		t.Errorf("the sandbox is held up: %v", err)
	}
	if _, err := s.add(); err == nil {
		t.Error("attached without a network")
	}
	if err := os.Rename(conf+".later", conf); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if err := s.Reconcile(t.Context(), gone); err != nil {
		t.Error(err)
	}
	if calls := s.calls(); !slices.Equal(calls, []string{"DEL " + a, "DEL " + a}) {
		t.Errorf("calls %v, want DEL of two plug-ins", calls)
	}
	s.left()
}

// A network's plug-ins may be files of a directory named after it, beside the list's file. DEL and
// CHECK are for them as well, even if the configuration has gone, or the record is damaged.
func TestPluginsOfADirectoryAreCalled(t *testing.T) {
	for name, list := range map[string]string{
		"all of them":  `{"cniVersion":"1.0.0","name":"n"}`,
		"some of them": `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"scripted"}]}`,
	} {
		for _, damaged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, damaged %v", name, damaged), func(t *testing.T) {
				s := newScripted(t, "1.0.0")
				conf := filepath.Join(s.dir, "conf")
				if err := errors.Join(os.WriteFile(filepath.Join(conf, "10.conflist"), []byte(list), 0o644),
					os.Mkdir(filepath.Join(conf, "n"), 0o755),
					os.WriteFile(filepath.Join(conf, "n", "20.conf"), []byte(`{"type":"scripted"}`), 0o644)); err != nil {
					t.Fatal(err)
				}
				s.restart()
				s.answer(someResult)
				if _, err := s.add(); err != nil {
					t.Fatal(err)
				}
				n := len(s.calls())
				if err := os.RemoveAll(conf); err != nil {
					t.Fatal(err)
				}
				s.restart()
				if damaged {
					if err := os.WriteFile(filepath.Join(s.dir, "records", a+".json"), []byte("{"), 0o600); err != nil {
						t.Fatal(err)
					}
				} else if err := s.Check(t.Context(), a, "/proc/self/ns/net"); err != nil {
					t.Error(err)
				} else if calls := s.calls(); len(calls) != n {
					t.Errorf("calls of CHECK %v, %d of ADD", calls, n)
				}
				if err := s.Del(t.Context(), a, ""); err != nil {
					t.Error(err)
				}
				if calls := s.calls(); !slices.Equal(calls, slices.Repeat([]string{"DEL " + a}, n)) {
					t.Errorf("calls %v, want DEL of %d plug-ins", calls, n)
				}
				s.left()
			})
		}
	}
}

func TestAnIDIsNoPath(t *testing.T) {
	s := newScripted(t, "1.0.0")
	other := filepath.Join(s.dir, "other.json")
	if err := os.WriteFile(other, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "records"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"../other", "", ".", "..", "/"} {
		if err := s.Del(t.Context(), id, ""); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestNamesCannotBecomeArguments(t *testing.T) {
	s := newScripted(t, "1.0.0")
	s.answer(someResult)
	for _, sb := range []Sandbox{
		{ID: a, Name: "a;IP=1.2.3.4", Namespace: "n", UID: "u"}, {ID: a, Name: "a", Namespace: "n;X=1", UID: "u"}, {ID: a, Name: "a", Namespace: "n", UID: "u=1"},
	} {
		if _, err := s.Add(t.Context(), sb, "/proc/self/ns/net"); err == nil {
			t.Errorf("%+v was attached", sb)
		}
	}
	s.left()
}

// FuzzRecord: whatever a plug-in answers, a record or a configuration file holds, nothing
// panics, and every address that comes out is one.
func FuzzRecord(f *testing.F) {
	const config = `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}]}`
	for _, s := range []string{
		`{"sandbox":{"id":"x"},"config":` + config + `,"result":` + someResult + `}`,
		`{"sandbox":{"id":"x"},"config":{"a":1},"result":{"ips":[{"address":"10.0.0.1/8"}]}}`,
		`{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"bridge","bridge":"b","ipMasq":true,"capabilities":{"portMappings":true}}]}`,
		`{"cniVersion":"1.0.0","name":"n","type":"a"}`, `null`, `[]`, `{"Sandbox":{"ID":"x"},"Config":null,"result":null}`, someResult,
	} {
		for kind := range uint8(5) {
			f.Add([]byte(s), kind)
		}
	}
	for _, format := range badResults {
		f.Add(fmt.Appendf(nil, format, "0.4.0"), uint8(4))
	}
	f.Fuzz(func(t *testing.T, text []byte, kind uint8) {
		var raw []byte
		switch dir := t.TempDir(); kind % 5 {
		case 0:
			if err := os.WriteFile(filepath.Join(dir, "x.json"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			rec, err := (records{dir}).read("x")
			if err != nil {
				return
			}
			if rec.Sandbox.ID != "x" {
				t.Errorf("the record of x is about %q", rec.Sandbox.ID)
			}
			_ = runtimeConf(rec.Sandbox, "/n")
			if list, err := networkOf(rec.Config); err == nil && (len(list.Plugins) == 0 || strings.ContainsAny(list.Name, "/\x00")) {
				t.Errorf("network %+v", list)
			}
			raw = rec.Result
		case 4:
			if checkAnswer(text) != nil {
				return
			}
			raw = text
		default:
			name := filepath.Join(dir, []string{"a.conf", "a.conflist", "a.json"}[kind%5-1])
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if list, err := readFile(name); err == nil {
				_ = bridgeOf(list)
			}
			return
		}
		res, err := resultOf(raw)
		if err == nil && len(res.IPs) == 0 || len(res.IPs) > maxEntries {
			t.Errorf("%d addresses, %v", len(res.IPs), err)
		}
		for _, ip := range res.IPs {
			if _, err := netip.ParseAddr(ip); err != nil {
				t.Errorf("%q: %v", ip, err)
			}
		}
	})
}

// What is wrong with the disk, or with the number of open files, is not wrong with the record.
func TestARecordThatCannotBeReadNowIsNotDamaged(t *testing.T) {
	s := newScripted(t, "1.0.0")
	s.answer(someResult)
	if _, err := s.add(); err != nil {
		t.Fatal(err)
	}
	s.calls()
	records, away := filepath.Join(s.dir, "records"), filepath.Join(s.dir, "away")
	if err := errors.Join(os.Rename(records, away), os.WriteFile(records, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, attached, err := s.Result(a); err == nil || attached {
		t.Errorf("attached %v, %v: want an error", attached, err)
	}
	if _, err := s.add(); err == nil {
		t.Error("it was attached a second time")
	}
	if err := s.Del(t.Context(), a, ""); err == nil {
		t.Error("it was detached without its record")
	}
	if calls := s.calls(); len(calls) != 1 || calls[0] != "" {
		t.Errorf("plug-ins were called: %v", calls)
	}
	if err := errors.Join(os.Remove(records), os.Rename(away, records)); err != nil {
		t.Fatal(err)
	}
	if res, attached, err := s.Result(a); err != nil || !attached || len(res.IPs) != 1 {
		t.Errorf("once the disk is back: %v, %v, %v", res, attached, err)
	}
}
