# A reward worker whose behaviour is a function of the column `key`; worker_soak_test.cpp has the same
# table. A right reward is 3 * key + 1.
echo '{"ready": true}'
while read -r line; do
  id=${line#*'"id":'}; id=${id%%,*}
  key=${line##*'"key":'}; key=${key%%\}*}
  case $((key % 1000)) in
    7) sleep 100;;
    413) sleep 1.5;;
    *)
      case $((key % 100)) in
        11) kill -9 $$;;
        29) exit 4;;
        53) echo "no { answer"; continue;;
        71) echo "{\"id\": $((id + 1)), \"reward\": 1}"; continue;;
        83) echo "{\"id\": $id, \"error\": \"as told\"}"; continue;;
        97) sleep 0.01;;
      esac;;
  esac
  echo "{\"id\": $id, \"reward\": $((3 * key + 1))}"
done
