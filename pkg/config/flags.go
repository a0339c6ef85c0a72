package config

import (
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Flags are the kubelet's command-line flags. They only record what was given; Load
// applies it to the files, which can be read only once --config is known. The zero
// value is ready for AddTo.
type Flags struct {
	configFile string
	configDir  string
	set        []assignment
}

type assignment struct {
	flag  *flag
	value string
}

// AddTo defines every flag on fs. Flags that are not honoured are accepted but left
// out of the help.
func (f *Flags) AddTo(fs *pflag.FlagSet) {
	// As in the kubelet, --root_dir is --root-dir.
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	fs.StringVar(&f.configFile, "config", "", "KubeletConfiguration file; flags win over it")
	fs.StringVar(&f.configDir, "config-dir", "", "directory of *.conf files laid over --config in order of their names")
	scratch := newConfig()
	setDefaults(scratch)
	for i := range flags {
		fl := &flags[i]
		v := &flagValue{flags: f, flag: fl, scratch: scratch}
		pf := &pflag.Flag{Name: fl.name, Usage: fl.text, Value: v, DefValue: v.String()}
		if fl.name == "v" {
			pf.Shorthand = "v"
		}
		if v.Type() == "bool" {
			pf.NoOptDefVal = "true"
		}
		pf.Hidden = fl.verdict != honoured
		fs.AddFlag(pf)
	}
}

// flagValue is the pflag.Value of a table line: it checks each value by setting it
// on a scratch configuration, so that a wrong one is refused at its flag.
type flagValue struct {
	flags   *Flags
	flag    *flag
	scratch *Config
}

// Set implements pflag.Value.
func (v *flagValue) Set(s string) error {
	if s == "" && (v.flag.field == "address" || v.flag.field == "healthzBindAddress") {
		return nil // as with the kubelet: the address is what it would be without the flag
	}
	if err := v.flag.apply(v.scratch, s); err != nil {
		return err
	}
	v.flags.set = append(v.flags.set, assignment{v.flag, s})
	return nil
}

// Type implements pflag.Value: the word in the help.
func (v *flagValue) Type() string {
	if v.flag.own == nil && v.flag.field == "" {
		if v.flag.bool {
			return "bool"
		}
		return "string"
	}
	switch v.flag.target(v.scratch).Interface().(type) {
	case *bool, **bool:
		return "bool"
	case *int32, **int32, *int64, **int64, *logsapi.VerbosityLevel:
		return "int"
	case *time.Duration, *metav1.Duration, **metav1.Duration, *logsapi.TimeOrMetaDuration:
		return "duration"
	case *[]string:
		return "list"
	case *map[string]string, *map[string]bool, *map[string][]string:
		return "map"
	}
	return "string"
}

// String implements pflag.Value: the current value, which help shows as the default.
func (v *flagValue) String() string {
	if v == nil || v.flag == nil || v.flag.own == nil && v.flag.field == "" {
		return ""
	}
	return display(v.flag.target(v.scratch).Elem())
}

// display formats a setting as a flag's value.
func display(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return shortDuration(x)
	case metav1.Duration:
		return shortDuration(x.Duration)
	case logsapi.TimeOrMetaDuration:
		return shortDuration(x.Duration.Duration)
	case resource.QuantityValue:
		return x.Quantity.String()
	case []string:
		return strings.Join(x, ",")
	case bool:
		return strconv.FormatBool(x)
	}
	if v.Kind() == reflect.Map || v.Kind() == reflect.Slice {
		return "" // has no short form
	}
	return fmt.Sprint(v.Interface())
}

// shortDuration writes 1m0s as 1m and 2h0m0s as 2h.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// target returns a pointer to what the flag sets.
func (fl *flag) target(c *Config) reflect.Value {
	if fl.own != nil {
		return reflect.ValueOf(fl.own(c))
	}
	v := reflect.ValueOf(&c.KubeletConfiguration).Elem()
	for name := range strings.SplitSeq(fl.field, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v, _ = fieldByJSON(v, name) // a test resolves every line of the table
	}
	return v.Addr()
}

// apply sets the flag's place in c. The first use of a list or map flag replaces
// the file's value, further uses add to it.
func (fl *flag) apply(c *Config, s string) error {
	if fl.own == nil && fl.field == "" {
		return nil
	}
	place := "--" + fl.name
	again := c.origins[fl.field] == place || c.origins[place] == place
	switch p := fl.target(c).Interface().(type) {
	case *string:
		*p = s
	case **string:
		*p = &s
	case *kubeletconfig.KubeletAuthorizationMode:
		*p = kubeletconfig.KubeletAuthorizationMode(s)
	case *bool:
		return parse(p, s, strconv.ParseBool, "true or false")
	case **bool:
		*p = new(bool)
		return parse(*p, s, strconv.ParseBool, "true or false")
	case *int32:
		return parse(p, s, parseInt32, "a whole number")
	case **int32:
		*p = new(int32)
		return parse(*p, s, parseInt32, "a whole number")
	case *int64:
		return parse(p, s, parseInt64, "a whole number")
	case **int64:
		*p = new(int64)
		return parse(*p, s, parseInt64, "a whole number")
	case *logsapi.VerbosityLevel:
		return logsapi.VerbosityLevelPflag(p).Set(s)
	case *time.Duration:
		return parse(p, s, time.ParseDuration, "a duration such as 20s")
	case *metav1.Duration:
		return parse(&p.Duration, s, time.ParseDuration, "a duration such as 20s")
	case **metav1.Duration:
		*p = new(metav1.Duration)
		return parse(&(*p).Duration, s, time.ParseDuration, "a duration such as 20s")
	case *logsapi.TimeOrMetaDuration:
		p.SerializeAsString = true
		return parse(&p.Duration.Duration, s, time.ParseDuration, "a duration such as 20s")
	case *resource.QuantityValue:
		return p.Set(s)
	case *logsapi.VModuleConfiguration:
		if !again {
			*p = nil
		}
		return logsapi.VModuleConfigurationPflag(p).Set(s)
	case *[]string:
		if !again {
			*p = nil
		}
		*p = append(*p, splitList(s)...)
	case *map[string]string:
		m, err := splitMap(s, fl.separator())
		if err != nil {
			return err
		}
		*p = merge(*p, m, again)
	case *map[string]bool:
		m, err := splitMap(s, "=")
		if err != nil {
			return err
		}
		b := map[string]bool{}
		for k, text := range m {
			if b[k], err = strconv.ParseBool(text); err != nil {
				return fmt.Errorf("%s: want true or false, got %q", k, text)
			}
		}
		*p = merge(*p, b, true) // features that a flag does not name are as the file has them, as with the kubelet
	case *map[string][]string:
		if !again || *p == nil {
			*p = map[string][]string{}
		}
		for _, item := range splitList(s) {
			k, text, ok := strings.Cut(item, ":")
			if !ok || strings.TrimSpace(k) == "" {
				return fmt.Errorf("want key:value")
			}
			k = strings.TrimSpace(k)
			(*p)[k] = append((*p)[k], strings.TrimSpace(text))
		}
	case *[]v1.Taint:
		if !again {
			*p = nil
		}
		return parseTaints(p, s)
	case *[]kubeletconfig.MemoryReservation:
		if !again {
			*p = nil
		}
		return parseReservedMemory(p, s)
	default:
		return fmt.Errorf("flag of unknown type %T", p)
	}
	return nil
}

// separator is put between key and value in the flag's maps.
func (fl *flag) separator() string {
	if fl.name == "eviction-hard" || fl.name == "eviction-soft" {
		return "<"
	}
	return "="
}

func parse[T any](p *T, s string, f func(string) (T, error), want string) error {
	v, err := f(s)
	if err != nil {
		return fmt.Errorf("want %s, got %q", want, s)
	}
	*p = v
	return nil
}

func parseInt32(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 0, 32)
	return int32(n), err
}

func parseInt64(s string) (int64, error) { return strconv.ParseInt(s, 0, 64) }

func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

func splitMap(s, sep string) (map[string]string, error) {
	m := map[string]string{}
	for _, item := range splitList(s) {
		k, v, ok := strings.Cut(item, sep)
		if !ok || strings.TrimSpace(k) == "" {
			return nil, fmt.Errorf("%q: want key%svalue", item, sep)
		}
		m[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return m, nil
}

func merge[V any](old, add map[string]V, keep bool) map[string]V {
	if !keep || old == nil {
		return add
	}
	maps.Copy(old, add)
	return old
}

// parseTaints reads key=value:Effect or key:Effect, separated by commas.
func parseTaints(p *[]v1.Taint, s string) error {
	for _, item := range splitList(s) {
		kv, effect, ok := strings.Cut(item, ":")
		key, value, _ := strings.Cut(kv, "=")
		t := v1.Taint{Key: key, Value: value, Effect: v1.TaintEffect(effect)}
		if !ok || key == "" {
			return fmt.Errorf("%q: want key=value:effect", item)
		}
		*p = append(*p, t)
	}
	return nil
}

// parseReservedMemory reads NODE:memory=QUANTITY,... , separated by semicolons.
func parseReservedMemory(p *[]kubeletconfig.MemoryReservation, s string) error {
	for item := range strings.SplitSeq(s, ";") {
		if item == "" {
			continue
		}
		node, list, ok := strings.Cut(item, ":")
		n, err := parseInt32(strings.TrimSpace(node))
		if !ok || err != nil {
			return fmt.Errorf("%q: want NUMA-node:type=quantity", item)
		}
		m, err := splitMap(list, "=")
		if err != nil {
			return err
		}
		r := kubeletconfig.MemoryReservation{NumaNode: n, Limits: v1.ResourceList{}}
		for k, text := range m {
			q, err := resource.ParseQuantity(text)
			if err != nil {
				return fmt.Errorf("%s=%s: %w", k, text, err)
			}
			r.Limits[v1.ResourceName(k)] = q
		}
		*p = append(*p, r)
	}
	return nil
}
