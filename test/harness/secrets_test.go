package harness

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestLeaksAreFoundHoweverTheyAreWritten(t *testing.T) {
	for _, mark := range Marks {
		for before := range 7 {
			secret := strings.Repeat("x", before) + mark + strings.Repeat("y", 6-before)
			quoted, err := json.Marshal(map[string]string{"message": "cannot use " + secret})
			if err != nil {
				t.Fatal(err)
			}
			for as, text := range map[string]string{
				"itself": secret, "JSON": string(quoted), "Go": fmt.Sprintf("%+q", secret), "hex": hex.EncodeToString([]byte(secret)),
				"query": url.QueryEscape(secret), "path": url.PathEscape(secret),
				"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "its URL form": base64.RawURLEncoding.EncodeToString([]byte(secret)),
			} {
				if found := Leaks([]byte("before\n" + text + " after")); len(found) != 1 {
					t.Errorf("%q as %s: %q", secret, as, found)
				}
			}
		}
	}
	for _, harmless := range []string{"", "hunter", "open", "sesame", "password: <redacted>"} {
		if found := Leaks([]byte(harmless)); len(found) > 0 {
			t.Errorf("%q: %q", harmless, found)
		}
	}
	if found := Leaks([]byte(strings.Repeat("hunter2 ", 1000))); len(found) != 5 {
		t.Errorf("of a thousand %d are told", len(found))
	}
}
