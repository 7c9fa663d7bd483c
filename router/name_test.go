package router

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzNamesFoldLikeLowerCaseASCII(f *testing.F) {
	f.Add([]byte("GET"), []byte("get"))
	f.Add([]byte("georadiusbymember_ro"), []byte("GEORADIUSBYMEMBER_RO"))
	f.Add([]byte("@[`{AZaz\x80\xc1\xda\xe1"), []byte("@[`{azAZ\x80\xc1\xda\xe1"))
	asciiLower := func(p []byte) []byte {
		q := bytes.Clone(p)
		for i, b := range q {
			if 'A' <= b && b <= 'Z' {
				q[i] = b + 'a' - 'A'
			}
		}
		return q
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > maxName || len(b) > maxName || len(a) != len(b) {
			return
		}
		same := fold(a) == fold(b)
		if want := bytes.Equal(asciiLower(a), asciiLower(b)); same != want {
			t.Fatalf("%q and %q: same %v, want %v", a, b, same, want)
		}
	})
}

func TestFoldKeepsEveryByteOfEveryLength(t *testing.T) {
	letters := []byte("abcdefghijklmnopqrstuvwxyz012345")
	for n := range len(letters) + 1 {
		f := fold(letters[:n])
		var unpacked []byte
		for _, w := range f {
			for range 8 {
				unpacked = append(unpacked, byte(w))
				w >>= 8
			}
		}
		if got := string(bytes.TrimRight(unpacked, "\x00")); got != string(letters[:n]) {
			t.Errorf("%d bytes: %q", n, got)
		}
	}
}

func TestKeywordsCompareAsCStrings(t *testing.T) {
	for arg, want := range map[string]bool{
		"BLOCK": true, "block": true, "bLoCk": true, "BLOCK\x00": true, "block\x00xyz": true,
		"BLOC": false, "BLOCKS": false, "": false, "\x00BLOCK": false, "BLO\x00CK": false,
	} {
		if equalWord([]byte(arg), "BLOCK") != want {
			t.Errorf("%q: want %v", arg, want)
		}
	}
}

func TestEveryNameIsFoundInAnyCaseAndNoOther(t *testing.T) {
	for _, c := range Builtin().Commands() {
		for _, name := range []string{c.Name, strings.ToUpper(c.Name), strings.ToUpper(c.Name[:1]) + c.Name[1:]} {
			if got := Builtin().Find(name); got != c {
				t.Errorf("%s: found %v", name, got)
			}
			args := words(strings.Split(name, "|")...)
			if got, err := Builtin().Lookup(args); got != c || err != nil {
				t.Errorf("%q: %v", args, err)
			}
		}
		for _, name := range []string{c.Name + "\x00", c.Name + "x", c.Name[1:], c.Name[:len(c.Name)-1] + "\x00", " " + c.Name} {
			if got := Builtin().Find(name); got == c {
				t.Errorf("%q: found %s", name, c.Name)
			}
		}
	}
}
