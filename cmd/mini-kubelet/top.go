package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/spf13/cobra"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

const topHelp = `Show what the node and its pods use now: CPU in thousandths of a core, and memory that
cannot be taken back (the working set). Percentages are of all that the machine has.`

// topFlags are those of all forms of top.
type topFlags struct {
	podFlags
	containers, noHeaders bool
}

func newTopCommand() *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what the node and its pods use",
		Long:  topHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.show(cmd.Context(), cmd.OutOrStdout(), true, true, "")
		},
	}
	f.addTo(cmd)
	cmd.AddCommand(newTopPartCommand("node", []string{"nodes", "no"}, "Show what the node uses", true), newTopPartCommand("pod [POD]", []string{"pods", "po"}, "Show what pods use", false))
	return cmd
}

func newTopPartCommand(use string, aliases []string, short string, node bool) *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use: use, Aliases: aliases, Short: short, Long: topHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 && !node { // the node is the agent's own, whatever it is called
				name = args[0]
			}
			return f.show(cmd.Context(), cmd.OutOrStdout(), node, !node, name)
		},
	}
	f.addTo(cmd)
	return cmd
}

func (f *topFlags) addTo(cmd *cobra.Command) {
	f.podFlags.addTo(cmd)
	cmd.Flags().BoolVar(&f.containers, "containers", false, "each container of the pods")
	cmd.Flags().BoolVar(&f.noHeaders, "no-headers", false, "only the lines below the header")
}

// show prints the tables; pod names the only one that is wanted, unless it is empty.
func (f *topFlags) show(ctx context.Context, out io.Writer, node, pods bool, pod string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	s := &stats.Summary{}
	if err := c.getJSON(ctx, s, c.url(nil, "stats", "summary")); err != nil {
		return err
	}
	if pod != "" {
		_, p, err := f.find(ctx, pod)
		if err != nil {
			return err
		}
		s.Pods = slices.DeleteFunc(s.Pods, func(u stats.PodStats) bool {
			return u.PodRef.Name != p.Name || u.PodRef.Namespace != p.Namespace
		})
		if len(s.Pods) == 0 {
			return fmt.Errorf("nothing is known yet of what pod %s uses", p.Name)
		}
	}
	if node {
		if err := f.table(out, []string{"NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"}, [][]string{nodeRow(s, c.machineCores(ctx))}); err != nil {
			return err
		}
	}
	if node && pods {
		fmt.Fprintln(out)
	}
	if !pods {
		return nil
	}
	header := []string{"NAMESPACE", "NAME", "CPU(cores)", "MEMORY(bytes)"}
	if f.containers {
		header = []string{"NAMESPACE", "POD", "NAME", "CPU(cores)", "MEMORY(bytes)"}
	}
	return f.table(out, header, podRows(s.Pods, f.namespace, f.containers))
}

func (f *topFlags) table(out io.Writer, header []string, rows [][]string) error {
	if f.noHeaders {
		header = nil
	}
	return writeTable(out, header, rows)
}

const unknown = "<unknown>"

func nodeRow(s *stats.Summary, cores float64) []string {
	cpu, cpuShare := cpuOf(s.Node.CPU), unknown
	if s.Node.CPU != nil && s.Node.CPU.UsageNanoCores != nil && cores > 0 {
		cpuShare = percent(float64(*s.Node.CPU.UsageNanoCores) / 1e9 / cores)
	}
	memory, memoryShare := memoryOf(s.Node.Memory), unknown
	if m := s.Node.Memory; m != nil && m.WorkingSetBytes != nil && m.AvailableBytes != nil && *m.WorkingSetBytes+*m.AvailableBytes > 0 {
		memoryShare = percent(float64(*m.WorkingSetBytes) / float64(*m.WorkingSetBytes+*m.AvailableBytes))
	}
	return []string{s.Node.NodeName, cpu, cpuShare, memory, memoryShare}
}

func podRows(all []stats.PodStats, namespace string, containers bool) [][]string {
	var rows [][]string
	for _, p := range all {
		if namespace != "" && p.PodRef.Namespace != namespace {
			continue
		}
		if !containers {
			rows = append(rows, []string{p.PodRef.Namespace, p.PodRef.Name, cpuOf(p.CPU), memoryOf(p.Memory)})
			continue
		}
		for _, c := range p.Containers {
			rows = append(rows, []string{p.PodRef.Namespace, p.PodRef.Name, c.Name, cpuOf(c.CPU), memoryOf(c.Memory)})
		}
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]), cmp.Compare(a[2], b[2]))
	})
	return rows
}

// cpuOf writes thousandths of a core, rounded up as the metrics API's quantities are.
func cpuOf(s *stats.CPUStats) string {
	if s == nil || s.UsageNanoCores == nil {
		return unknown
	}
	return fmt.Sprintf("%dm", (*s.UsageNanoCores+999_999)/1_000_000)
}

func memoryOf(s *stats.MemoryStats) string {
	if s == nil || s.WorkingSetBytes == nil {
		return unknown
	}
	return fmt.Sprintf("%dMi", *s.WorkingSetBytes>>20)
}

func percent(share float64) string { return fmt.Sprintf("%d%%", int(share*100)) }

// machineCores is how many CPUs the node has, 0 if it does not say.
func (c *agentClient) machineCores(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.get(ctx, c.url(nil, "metrics", "cadvisor"))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return coresIn(resp.Body, resp.Header)
}

func coresIn(body io.Reader, header http.Header) float64 {
	for d := expfmt.NewDecoder(body, expfmt.ResponseFormat(header)); ; {
		var family dto.MetricFamily
		if d.Decode(&family) != nil {
			return 0
		}
		if family.GetName() == "machine_cpu_cores" && len(family.Metric) > 0 {
			return family.Metric[0].GetGauge().GetValue()
		}
	}
}
