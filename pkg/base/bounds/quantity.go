package bounds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// A quantity takes a few bytes to write, but the library that reads, compares and writes it
// makes a number with as many digits as its exponent says: one of 300,000,000 takes minutes
// of a core and a gigabyte, each time. And a value that does not fit in 64 bits is read as
// an arbitrary number: 1e30 is 0.

// The longest text of a quantity, and exponents that nobody needs.
const maxQuantityText = 100

var hugeExponent = regexp.MustCompile(`[eE][+-]?0*[1-9][0-9]{3,}\s*$`)

func unreadable(text string) bool {
	return len(text) > maxQuantityText || hugeExponent.MatchString(text)
}

// ParseQuantity is resource.ParseQuantity for text from anybody.
func ParseQuantity(text string) (resource.Quantity, error) {
	if unreadable(text) {
		return resource.Quantity{}, fmt.Errorf("%q: %w", Quote(text), resource.ErrFormatWrong)
	}
	return resource.ParseQuantity(text)
}

// quantityFields are the fields of pods, persistent volumes and their claims that hold
// quantities, or lists of them.
var quantityFields = map[string]bool{"limits": true, "requests": true, "capacity": true, "overhead": true, "sizeLimit": true, "divisor": true}

// UnreadableQuantity reports whether a pod, a persistent volume or a claim, in JSON, has a
// quantity that takes too long to read: such a document must not be decoded. Text that is
// not JSON has none.
func UnreadableQuantity(document []byte) bool {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var all any
	return d.Decode(&all) == nil && unreadableIn(all, false)
}

func unreadableIn(v any, quantity bool) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if unreadableIn(value, quantity || quantityFields[key]) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(value any) bool { return unreadableIn(value, quantity) })
	case string:
		return quantity && unreadable(v)
	case json.Number:
		return quantity && unreadable(v.String())
	}
	return false
}

// Quantity refuses an amount that does not fit in 64 bits, and with thousandths one whose
// thousandths do not. It neither compares nor writes the amount, which is what takes long.
func Quantity(q resource.Quantity, thousandths bool) error {
	most := float64(math.MaxInt64)
	if thousandths {
		most /= 1000
	}
	amount := q.AsApproximateFloat64()
	if size := math.Abs(amount); size > most || size == most && q.CmpInt64(math.MaxInt64) > 0 {
		return fmt.Errorf("%g is more than 64 bits hold", amount)
	}
	return nil
}

// Quantities calls bad for each quantity in an API object that Quantity refuses, with its
// path, which starts with path.
func Quantities(object any, path string, bad func(path string, err error)) {
	quantities(reflect.ValueOf(object), path, false, bad)
}

var quantityType = reflect.TypeFor[resource.Quantity]()

func quantities(v reflect.Value, path string, thousandths bool, bad func(string, error)) {
	if !v.IsValid() {
		return // a nil pointer
	}
	if v.Type() == quantityType {
		if err := Quantity(v.Interface().(resource.Quantity), thousandths); err != nil {
			bad(path, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		quantities(v.Elem(), path, thousandths, bad)
	case reflect.Slice:
		for i := range v.Len() {
			quantities(v.Index(i), fmt.Sprintf("%s[%d]", path, i), thousandths, bad)
		}
	case reflect.Map:
		if v.Type().Elem() != quantityType {
			return // strings
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			quantities(v.MapIndex(k), fmt.Sprintf("%s[%s]", path, Quote(k.String())), k.String() == "cpu", bad)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			at := path
			if name, options, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && !strings.Contains(options, "inline") {
				at = strings.TrimPrefix(path+"."+name, ".")
			}
			quantities(v.Field(i), at, thousandths, bad)
		}
	}
}
