package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/program"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
)

// The kubelet's bounds of a query (KEP-2258), and how much journalctl may complain, or list of units.
const (
	maxQueryLines  = 100000
	maxServiceName = 256
	maxServices    = 4
	logQueryTime   = 30 * time.Second
	maxComplaint   = 64 << 10
	maxUnits       = 4 << 20
)

// unsafeInService is what may not be in the name of a service, which becomes an argument.
var unsafeInService = regexp.MustCompile(`[^a-zA-Z\-_.:0-9@]`)

// logQuery is a query of the node's logs: of services, or of one file.
type logQuery struct {
	services, files []string
	since, until    *time.Time
	lines, boot     *int
	pattern         string
}

// hasOptions reports whether anything but what to show is asked for, which a file cannot answer.
func (q logQuery) hasOptions() bool {
	return q.since != nil || q.until != nil || q.lines != nil || q.boot != nil || q.pattern != ""
}

// asksForLogs reports whether a request is a query rather than one for a file or a list of files.
func asksForLogs(v url.Values) bool {
	return slices.ContainsFunc([]string{"query", "sinceTime", "untilTime", "tailLines", "boot", "pattern"}, v.Has)
}

// parseLogQuery reads a query and checks it by the kubelet's rules. The error joins all that is wrong.
func parseLogQuery(v url.Values) (q logQuery, err error) {
	var errs []error
	bad := func(name string, value any, why string) {
		errs = append(errs, fmt.Errorf("%s: Invalid value: %q: %s", name, fmt.Sprint(value), why))
	}
	for _, s := range v["query"] {
		switch {
		case strings.ContainsAny(s, `/\`):
			q.files = append(q.files, s)
		case strings.TrimSpace(s) != "":
			q.services = append(q.services, s)
		}
	}
	for name, to := range map[string]**time.Time{"sinceTime": &q.since, "untilTime": &q.until} {
		if s := v.Get(name); s != "" {
			at, err := time.Parse(time.RFC3339, s)
			if err != nil {
				bad(name, s, "invalid time format")
				continue
			}
			*to = &at
		}
	}
	for name, to := range map[string]**int{"tailLines": &q.lines, "boot": &q.boot} {
		if s := v.Get(name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil {
				bad(name, s, err.Error())
				continue
			}
			*to = &n
		}
	}
	q.pattern = v.Get("pattern")
	q.check(bad)
	return q, errors.Join(errs...)
}

// check tells bad of what is wrong with the query as a whole.
func (q logQuery) check(bad func(name string, value any, why string)) {
	for _, s := range q.services {
		if len(s) > maxServiceName {
			bad("query", s[:maxServiceName], fmt.Sprintf("length must be less than %d", maxServiceName))
		} else if unsafeInService.MatchString(s) {
			bad("query", s, "input contains unsupported characters")
		}
	}
	switch {
	case len(q.services) > maxServices:
		bad("query", len(q.services), fmt.Sprintf("must have at most %d items", maxServices))
	case len(q.files) == 0 && len(q.services) == 0:
		bad("query", "", "may not be empty")
	case len(q.files) > 0 && len(q.services) > 0:
		bad("query", q.files[0], "cannot specify a file and service")
	case len(q.files) > 1:
		bad("query", q.files[1], "cannot specify more than one file")
	case len(q.files) == 1 && q.hasOptions():
		bad("query", q.files[0], "cannot specify file with options")
	}
	if q.since != nil && q.until != nil && q.since.After(*q.until) {
		bad("untilTime", q.until, "must be after `sinceTime`")
	}
	if q.boot != nil && *q.boot > 0 {
		bad("boot", *q.boot, "must be less than 1")
	}
	if q.lines != nil && (*q.lines < 0 || *q.lines > maxQueryLines) {
		bad("tailLines", *q.lines, fmt.Sprintf("must be between 0 and %d, inclusive", maxQueryLines))
	}
	if _, err := syntax.Parse(q.pattern, syntax.Perl); err != nil {
		bad("pattern", q.pattern, err.Error())
	}
}

// journalArgs are the arguments of journalctl. Times are given in UTC and as such, whatever the zone of
// the request or the machine.
func (q logQuery) journalArgs(services []string) []string {
	const layout = "2006-01-02 15:04:05 UTC"
	args := []string{"--utc", "--no-pager", "--output=short-precise"}
	if q.since != nil {
		args = append(args, "--since="+q.since.UTC().Format(layout))
	}
	if q.until != nil {
		args = append(args, "--until="+q.until.UTC().Format(layout))
	}
	if q.lines != nil {
		args = append(args, "--pager-end", fmt.Sprintf("--lines=%d", *q.lines))
	}
	for _, s := range services {
		args = append(args, "--unit="+s)
	}
	if q.pattern != "" {
		args = append(args, "--grep="+q.pattern)
	}
	if q.boot != nil {
		args = append(args, fmt.Sprintf("--boot=%d", *q.boot))
	}
	return args
}

// queryLogs answers /logs/?query=. The journal's services and files below LogsDir are shown; no link leads
// out of it, and what is no regular file is not opened.
func (a *api) queryLogs(w http.ResponseWriter, r *http.Request) {
	q, err := parseLogQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), logQueryTime)
	defer cancel()
	if len(q.files) == 1 {
		a.showLogFile(ctx, w, q.files[0])
		return
	}
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	journal, files := splitServices(q.services, journalUnits(ctx))
	if len(journal) > 0 {
		p := program.Program{Path: "journalctl", Args: q.journalArgs(journal), MaxOutput: maxComplaint}
		complaint, err := p.Stream(ctx, w)
		_, _ = w.Write(complaint) // an error is the client's
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			fmt.Fprintf(w, "\nerror: journal output not available: %v\n", err)
		}
	}
	if len(files) > 0 && q.hasOptions() {
		fmt.Fprintf(w, "\noptions present and query resolved to log files for %v\ntry without specifying options\n", files)
		return
	}
	for _, s := range files {
		a.copyServiceFile(ctx, w, s)
	}
}

// journalUnits returns the units that the journal has messages of, by name; none without a journal.
func journalUnits(ctx context.Context) map[string]bool {
	p := program.Program{Path: "journalctl", Args: []string{"--field", "_SYSTEMD_UNIT"}, MaxOutput: maxUnits}
	out, _, err := p.Run(ctx)
	if err != nil {
		klog.V(4).InfoS("The journal cannot be asked; services are looked for in files", "err", err)
		return nil
	}
	units := map[string]bool{}
	for line := range strings.SplitSeq(string(out), "\n") {
		units[line] = true
	}
	return units
}

// splitServices tells services of the journal from those that may log to files.
func splitServices(services []string, units map[string]bool) (journal, files []string) {
	for _, s := range services {
		if units[s+".service"] || units[s] {
			journal = append(journal, s)
		} else {
			files = append(files, s)
		}
	}
	return journal, files
}

// copyServiceFile shows the first of the files that a service's log may be in.
func (a *api) copyServiceFile(ctx context.Context, w io.Writer, service string) {
	for _, name := range []string{service, service + ".log", filepath.Join(service, service+".log")} {
		f, err := openLog(a.LogsDir, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, safefile.ErrNotRegular) {
			continue // a directory may be that of the third name
		}
		if err == nil {
			err = copyLog(ctx, w, f)
		}
		if err != nil {
			fmt.Fprintf(w, "\nerror getting log for %s: %v\n", service, err)
		}
		return
	}
	fmt.Fprintf(w, "\nlog not found for %s\n", service)
}

func (a *api) showLogFile(ctx context.Context, w http.ResponseWriter, name string) {
	f, err := openLog(a.LogsDir, name)
	if err != nil {
		http.Error(w, fmt.Sprintf("query: Invalid value: %q: %v", name, err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	if err := copyLog(ctx, w, f); err != nil {
		fmt.Fprintf(w, "\nerror getting log: %v\n", err)
	}
}

// openLog opens a regular file as /logs/ does: links lead to what is below the directory, and nowhere else.
func openLog(dir, name string) (http.File, error) {
	f, err := logFiles(dir).Open(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: safefile.ErrNotRegular}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// copyLog writes what the file has now, which is an end to a log that grows, and closes it.
func copyLog(ctx context.Context, w io.Writer, f http.File) error {
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.LimitReader(untilDone{ctx, f}, fi.Size()))
	return err
}

// untilDone reads until a context ends.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}
