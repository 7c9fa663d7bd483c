package scripts

import (
	"errors"
	"flag"
	"fmt"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var updateDocs = flag.Bool("update-docs", false, "write the generated tables of the documents instead of checking them")

func TestDocumentsListEveryFile(t *testing.T) {
	const page = "../server/ARCHITECTURE.md"
	const begin, end = "<!-- files:begin -->\n", "<!-- files:end -->"
	want, err := fileTables("..")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(data), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s needs a line %sand a line %s", page, begin, end)
	}
	if got == want {
		return
	}
	if *updateDocs {
		if err := os.WriteFile(page, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s does not say what the files say. Run go test ./scripts -run Documents -update-docs", page)
}

// fileTables returns a table for each folder under root, of its Go files and their first sentences.
func fileTables(root string) (string, error) {
	rows := map[string]string{} // by folder
	var missing []error
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && skipped(entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		sentence, err := firstSentence(source)
		if err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", name, err))
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(name))
		rows[filepath.ToSlash(folder)] += fmt.Sprintf("| `%s` | %s |\n", entry.Name(), strings.ReplaceAll(sentence, "|", `\|`))
		return err
	})
	var tables strings.Builder
	for _, folder := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&tables, "\n### %s\n\n| file | |\n|---|---|\n%s", folder, rows[folder])
	}
	return tables.String() + "\n", errors.Join(append(missing, err)...)
}

// skipped reports whether a folder holds no code of ours.
func skipped(folder string) bool {
	return strings.HasPrefix(folder, ".") || strings.HasPrefix(folder, "_") ||
		folder == "testdata" || folder == "node_modules"
}

// firstSentence returns the first sentence of a file's first comment that begins in the first column:
// of the comment before the package clause, else of the comment on the first declaration that has one.
func firstSentence(source []byte) (string, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	for _, comment := range file.Comments {
		if files.Position(comment.Pos()).Column != 1 {
			continue
		}
		if sentence := new(doc.Package).Synopsis(comment.Text()); sentence != "" { // "" for directives
			return sentence, nil
		}
	}
	return "", errors.New("no comment says what the file is for")
}

func TestTheFirstSentenceOfAFileIsFound(t *testing.T) {
	for _, test := range []struct{ name, source, want string }{
		{"before the package clause", "// Package x counts. It is fast.\npackage x\n\n// y is.\ntype y int\n", "Package x counts."},
		{"on the first declaration", "package x\n\nimport \"fmt\"\n\n// y prints\n// lines. Not words.\nfunc y() { fmt.Println() }\n", "y prints lines."},
		{"after a declaration without one", "package x\n\nconst a = 1 // bytes\n\n// b is 2.\nconst b = 2\n", "b is 2."},
		{"after a directive", "//go:build linux\n\npackage x\n\n// y is.\ntype y int\n", "y is."},
		{"apart from any declaration", "package x\n\n// All of this is old.\n\nfunc y() {}\n", "All of this is old."},
		{"not in a declaration", "package x\n\ntype y struct {\n\t// z counts.\n\tz int\n}\n", ""},
	} {
		got, err := firstSentence([]byte(test.source))
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
}
