package scripts

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A declaration that was renamed keeps a comment on another name, which misleads more than none.
func TestDocCommentsBeginWithTheNameTheyDocument(t *testing.T) {
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != ".." && skipped(entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(files, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				checkDoc(t, files, d.Doc, d.Name.Name)
			case *ast.GenDecl:
				if spec, is := d.Specs[0].(*ast.TypeSpec); is && !d.Lparen.IsValid() {
					checkDoc(t, files, d.Doc, spec.Name.Name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkDoc(t *testing.T, files *token.FileSet, doc *ast.CommentGroup, name string) {
	words := strings.Fields(doc.Text())
	if len(words) > 1 && slices.Contains([]string{"A", "An", "The"}, words[0]) {
		words = words[1:]
	}
	if len(words) > 0 && strings.TrimRight(words[0], ",:") != name {
		t.Errorf("%s: the comment on %s begins with %q", files.Position(doc.Pos()), name, words[0])
	}
}
