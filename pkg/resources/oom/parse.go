package oom

import (
	"bytes"
	"path"
	"strconv"
	"strings"
)

// Kill is one process that the kernel has killed because memory ran out.
type Kill struct {
	PID     int
	Process string // its name, at most maxName bytes, which the process chose itself
	// Limit is the cgroup whose limit was reached, "/" if the whole machine was out of memory,
	// and Victim that of the process, "" if the kernel did not tell. Both are paths from the root of all
	// cgroups.
	Limit, Victim string
}

// System reports whether the machine was out of memory, not a cgroup with a limit of
// its own.
func (k Kill) System() bool { return k.Limit == "/" }

// maxName is the longest name of a process, in bytes (the kernel's TASK_COMM_LEN less its
// end).
const maxName = 15

// record returns the text of one record of /dev/kmsg (the kernel's
// Documentation/ABI/testing/dev-kmsg). ok is false for one that the kernel did not write itself: it gives
// each record that was written to /dev/kmsg a facility other than 0.
//
//	6,339,5140900,-;text of the message
//	 KEY=value of what it is about
func record(raw []byte) (text string, ok bool) {
	prefix, rest, found := bytes.Cut(raw, []byte{';'})
	if !found {
		return "", false
	}
	number, _, _ := bytes.Cut(prefix, []byte{','})
	priority, err := strconv.ParseUint(string(number), 10, 32)
	if err != nil || priority>>3 != 0 {
		return "", false
	}
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	return string(line), true
}

// parser puts together what the kernel tells of one kill, in several records:
//
//	X invoked oom-killer: …                                 what asked for memory
//	Task in A killed as a result of limit of B              before 5.0, if a cgroup's limit was reached
//	oom-kill:constraint=…,task_memcg=A,task=N,pid=P,uid=U   since 5.0: all of it
//	Out of memory: Killed process P (N) …                   the machine was out of memory
//	Memory cgroup out of memory: Killed process P (N) …     a cgroup was
//	Killed process P (N) …                                  before 5.0, both
//
// When kills come fast the kernel leaves out all but the line with "Killed process". The
// zero value is ready.
type parser struct {
	open bool // a kill has begun and its process is not known yet
	kill Kill
	told int // the process of the last kill, which more lines may be about
}

// line takes in the next line. ok is true if it completes a kill.
func (p *parser) line(text string) (k Kill, ok bool) {
	switch {
	case strings.Contains(text, " invoked oom-killer: "):
		*p = parser{open: true, kill: Kill{Limit: "/"}}
	case strings.HasPrefix(text, "oom-kill:constraint="):
		if k, ok = structured(text); ok {
			*p = parser{told: k.PID}
		}
		return k, ok
	case strings.HasPrefix(text, "Task in /"):
		if victim, limit, ok := cutLast(strings.TrimPrefix(text, "Task in "), " killed as a result of limit of "); ok {
			p.kill.Victim, p.kill.Limit = path.Clean(victim), path.Clean(limit)
		}
	default:
		return p.killed(text)
	}
	return Kill{}, false
}

// killed reads the line that ends what is told of a kill.
func (p *parser) killed(text string) (k Kill, ok bool) {
	reason, rest, ok := strings.Cut(text, "Killed process ")
	if !ok {
		return Kill{}, false
	}
	// The line is taken as it begins: the name of a process may hold the same words.
	whole := reason == "Out of memory: " || reason == "Out of memory (oom_kill_allocating_task): "
	if !whole && (!p.open || reason != "" && reason != "Memory cgroup out of memory: ") {
		return Kill{}, false
	}
	number, name, ok := strings.Cut(rest, " (")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil || pid <= 0 || pid == p.told {
		return Kill{}, false
	}
	// A name may hold parentheses; what follows it does not.
	end := len(name)
	for _, after := range []string{", UID ", " total-vm:"} {
		if i := strings.LastIndex(name[:end], after); i >= 0 {
			end = i
		}
	}
	end = strings.LastIndexByte(name[:end], ')')
	if end < 0 {
		return Kill{}, false
	}
	k = p.kill
	if !p.open {
		k = Kill{Limit: "/"}
	}
	if reason == "Memory cgroup out of memory: " && k.Limit == "/" {
		k.Limit = "" // some cgroup's, which the kernel did not tell
	}
	k.PID, k.Process = pid, processName(name[:end])
	*p = parser{told: pid}
	return k, true
}

// structured reads the line that kernels have since 5.0. It is read from its end, since
// cgroups and processes can have names with commas.
func structured(text string) (k Kill, ok bool) {
	rest, uid, ok := cutLast(text, ",uid=")
	if !ok || !digits(uid) {
		return Kill{}, false
	}
	rest, number, ok := cutLast(rest, ",pid=")
	pid, err := strconv.Atoi(number)
	if !ok || !digits(number) || err != nil || pid <= 0 {
		return Kill{}, false
	}
	k.PID = pid
	// A global one has no oom_memcg.
	head, rest, ok := strings.Cut(rest, ",task_memcg=")
	if !ok {
		return Kill{}, false
	}
	k.Limit = "/"
	if _, limit, ok := strings.Cut(head, ",oom_memcg="); ok {
		k.Limit = path.Clean(limit)
	}
	// The first one that leaves no more than the name of a process can have.
	const task = ",task="
	for at := strings.Index(rest, task); at >= 0; {
		if name := rest[at+len(task):]; len(unescape(name)) <= maxName {
			k.Victim, k.Process = path.Clean(rest[:at]), processName(name)
			return k, true
		}
		next := strings.Index(rest[at+1:], task)
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return Kill{}, false
}

func cutLast(text, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

func processName(escaped string) string {
	name := unescape(escaped)
	return name[:min(len(name), maxName)]
}

// unescape undoes what the kernel does with characters that are not printable ASCII:
// \x1b.
func unescape(text string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, `\x`)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if b, err := strconv.ParseUint(after[:min(2, len(after))], 16, 8); err == nil && len(after) >= 2 {
			out.WriteByte(byte(b))
			text = after[2:]
			continue
		}
		out.WriteString(`\x`)
		text = after
	}
}
