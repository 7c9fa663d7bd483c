package codec

import (
	"math"
	"strings"
	"testing"
)

func TestWritersWriteWhatRedisWrites(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"array", AppendArray(nil, 10), "*10\r\n"},
		{"map", AppendMap(nil, 2, 3), "%2\r\n"},
		{"map in RESP2", AppendMap(nil, 2, 2), "*4\r\n"},
		{"set", AppendSet(nil, 2, 3), "~2\r\n"},
		{"set in RESP2", AppendSet(nil, 2, 2), "*2\r\n"},
		{"push", AppendPush(nil, 3, 3), ">3\r\n"},
		{"push in RESP2", AppendPush(nil, 3, 2), "*3\r\n"},
		{"bulk", AppendBulk(nil, []byte("a\r\n")), "$3\r\na\r\n\r\n"},
		{"empty bulk", AppendBulk(nil, nil), "$0\r\n\r\n"},
		{"bulk string", AppendBulkString(nil, "ab"), "$2\r\nab\r\n"},
		{"integer", AppendInt(nil, math.MinInt64), ":-9223372036854775808\r\n"},
		{"simple", AppendSimple(nil, "OK"), "+OK\r\n"},
		{"simple of two lines", AppendSimple(nil, "a\r\nb"), "+a  b\r\n"},
		{"error", AppendError(nil, "ERR no"), "-ERR no\r\n"},
		{"error of two lines", AppendError(nil, "ERR unknown command 'a\r\n+OK'"), "-ERR unknown command 'a  +OK'\r\n"},
		{"null", AppendNull(nil, 3), "_\r\n"},
		{"null in RESP2", AppendNull(nil, 2), "$-1\r\n"},
		{"null array", AppendNullArray(nil, 3), "_\r\n"},
		{"null array in RESP2", AppendNullArray(nil, 2), "*-1\r\n"},
		{"true", AppendBool(nil, true, 3), "#t\r\n"},
		{"false", AppendBool(nil, false, 3), "#f\r\n"},
		{"true in RESP2", AppendBool(nil, true, 2), ":1\r\n"},
		{"false in RESP2", AppendBool(nil, false, 2), ":0\r\n"},
		{"double", AppendDouble(nil, 0.1, 3), ",0.1\r\n"},
		{"whole double", AppendDouble(nil, 3000000, 3), ",3000000\r\n"},
		{"negative zero", AppendDouble(nil, math.Copysign(0, -1), 3), ",-0\r\n"},
		{"large double", AppendDouble(nil, 1e300, 3), ",1e+300\r\n"},
		{"inf", AppendDouble(nil, math.Inf(1), 3), ",inf\r\n"},
		{"-inf in RESP2", AppendDouble(nil, math.Inf(-1), 2), "$4\r\n-inf\r\n"},
		{"nan", AppendDouble(nil, math.NaN(), 3), ",nan\r\n"},
		{"double in RESP2", AppendDouble(nil, 1.5, 2), "$3\r\n1.5\r\n"},
		{"verbatim", AppendVerbatim(nil, "txt", "a", 3), "=5\r\ntxt:a\r\n"},
		{"verbatim in RESP2", AppendVerbatim(nil, "txt", "a", 2), "$1\r\na\r\n"},
		{"command", AppendCommand(nil, []byte("GET"), []byte("k")), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"},
		{"command string", AppendCommandString(nil, "GET", ""), "*2\r\n$3\r\nGET\r\n$0\r\n\r\n"},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestWritersAppend(t *testing.T) {
	dst := []byte("before\n")
	dst = AppendSimple(dst, "OK")
	dst = AppendVerbatim(dst, "txt", "", 3)
	if string(dst) != "before\n+OK\r\n=4\r\ntxt:\r\n" {
		t.Fatalf("%q", dst)
	}
}

func TestAFormatOfAVerbatimStringHasThreeLetters(t *testing.T) {
	defer func() {
		if said, ok := recover().(string); !ok || !strings.Contains(said, "three letters") {
			t.Errorf("recovered %q", said)
		}
	}()
	AppendVerbatim(nil, "text", "a", 3)
}
