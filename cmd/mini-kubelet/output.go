package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/visible"
)

// addOutputFlag defines -o with the allowed forms, besides the table.
func addOutputFlag(cmd *cobra.Command, format *string, forms ...string) {
	cmd.Flags().StringVarP(format, "output", "o", "", "form of the output: "+strings.Join(forms, ", ")+"; a table when empty")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *format != "" && !slices.Contains(forms, *format) {
			return fmt.Errorf("-o %s: want one of %s", *format, strings.Join(forms, ", "))
		}
		return nil
	}
}

// writeObject writes v as JSON or YAML, with the field names of its JSON form.
func writeObject(out io.Writer, format string, v any) error {
	if format == "yaml" {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		// YAML takes no control characters, and JSON leaves some as they are.
		if text, err = yaml.JSONToYAML([]byte(visible.Text(string(text)))); err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "    ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeTable writes rows under a header in columns, as kubectl spaces them. What pods,
// images and the runtime say of themselves is made harmless to a terminal. A nil header is none.
func writeTable(out io.Writer, header []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 6, 4, 3, ' ', 0)
	if header != nil {
		fmt.Fprintln(w, strings.Join(header, "\t"))
	}
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = visible.Text(cell); cell == "" {
				row[i] = "<none>"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// since returns how long ago t was, as kubectl does: 5s, 3m20s, 4d.
func since(t, now time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t))
}

// shortID is the part of an ID that Docker shows.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 {
		id = id[:12]
	}
	return id
}

// humanSize writes bytes as docker does, in decimal units with three digits.
func humanSize(n uint64) string {
	size, unit := float64(n), 0
	units := []string{"B", "kB", "MB", "GB", "TB"}
	for size >= 999.5 && unit < len(units)-1 {
		size /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g%s", size, units[unit])
}
