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

// A quantity is written in a few bytes, and the library that reads and compares it makes a
// number with as many digits as its exponent says: one of 300,000,000 takes minutes of a core
// and a gigabyte, each time. What does not fit 64 bits is moreover 0 to those who ask for
// its value.

// hugeExponent is a number whose exponent no amount of anything needs.
var hugeExponent = regexp.MustCompile(`^\s*[+-]?[0-9.]+[eE][+-]?0*[1-9][0-9]{3,}\s*$`)

// ParseQuantity is resource.ParseQuantity for text that anybody may have written.
func ParseQuantity(text string) (resource.Quantity, error) {
	if hugeExponent.MatchString(text) {
		return resource.Quantity{}, fmt.Errorf("%s: %w", Quote(text), resource.ErrFormatWrong)
	}
	return resource.ParseQuantity(text)
}

// HugeExponents tells whether a JSON document has a number, or text that could be read as
// one, whose exponent is so large that the document is not to be decoded: text that is no
// quantity's hardly ever looks like that.
func HugeExponents(document []byte) bool {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil { // the end, or what decoding will say
			return false
		}
		var text string
		switch t := token.(type) {
		case json.Number:
			text = t.String()
		case string:
			text = t
		}
		// With six digits it takes some milliseconds.
		if hugeExponent.MatchString(text) && len(text)-strings.IndexAny(text, "eE") > len("e-123456") {
			return true
		}
	}
}

// Quantity refuses an amount that 64 bits do not hold, in thousandths where they are asked
// for as well.
func Quantity(q resource.Quantity, thousandths bool) error {
	most := float64(math.MaxInt64)
	if thousandths {
		most /= 1000
	}
	if amount := math.Abs(q.AsApproximateFloat64()); amount >= most { // no comparison, which is what takes long
		return fmt.Errorf("%s is more than 64 bits hold", Quote(q.String()))
	}
	return nil
}

// Quantities calls bad for each quantity in an API object that Quantity refuses, with its
// path below that of the object.
func Quantities(object any, path string, bad func(path string, err error)) {
	quantities(reflect.ValueOf(object), path, false, bad)
}

var quantityType = reflect.TypeFor[resource.Quantity]()

func quantities(v reflect.Value, path string, thousandths bool, bad func(string, error)) {
	if !v.IsValid() || v.Type() == quantityType {
		if v.IsValid() {
			if err := Quantity(v.Interface().(resource.Quantity), thousandths); err != nil {
				bad(path, err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		quantities(v.Elem(), path, thousandths, bad)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			quantities(v.Index(i), fmt.Sprintf("%s[%d]", path, i), thousandths, bad)
		}
	case reflect.Map:
		if v.Type().Elem() != quantityType {
			return // of strings
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
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			at := path
			if name != "" && !strings.Contains(options, "inline") {
				at = strings.TrimPrefix(path+"."+name, ".")
			}
			quantities(v.Field(i), at, thousandths, bad)
		}
	}
}
