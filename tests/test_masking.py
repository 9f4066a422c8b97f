"""What is personal data and what only looks like it. All numbers and names are made up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from data.cleaning import prepare, redact
from data.masking import KINDS, find_personal_data, placeholder

FOUND = [
    ("请回电13800138000谢谢", "手机号", "13800138000"),
    ("手机138 0013 8000随时可打", "手机号", "138 0013 8000"),
    ("打我138-0013-8000", "手机号", "138-0013-8000"),
    ("号码+86 13900001111", "手机号", "+86 13900001111"),
    ("我的电话１３８００１３８０００", "手机号", "１３８００１３８０００"),
    ("电话是1 3 8 0 0 1 3 8 0 0 0", "手机号", "1 3 8 0 0 1 3 8 0 0 0"),
    ("电话幺三八零零幺三八零零零你记一下", "手机号", "幺三八零零幺三八零零零"),
    ("联系19912345678,急", "手机号", "19912345678"),
    ("家里座机0898-66123456", "电话", "0898-66123456"),
    ("办公室(010)62345678没人接", "电话", "(010)62345678"),
    ("拨打02087654321转301无人接听", "电话", "02087654321转301"),
    ("客服400-800-1234一直占线", "电话", "400-800-1234"),
    ("客服4008001234一直占线", "电话", "4008001234"),
    ("物业电话：66123456", "电话", "66123456"),
    ("身份证11010519491231002X办不了", "身份证", "11010519491231002X"),
    ("身份证11010519491231002x办不了", "身份证", "11010519491231002x"),
    ("身份证号：110105194912310021", "身份证", "110105194912310021"),  # wrong checksum, but called one
    ("证件110105491231002", "身份证", "110105491231002"),
    ("一辆京A12345堵住大门", "车牌", "京A12345"),
    ("琼a·8k6m2停在通道", "车牌", "琼a·8k6m2"),
    ("新能源车粤BD12345占用充电位", "车牌", "粤BD12345"),
    ("粤B12345D占用充电位", "车牌", "粤B12345D"),
    ("教练车苏E1234学逆行", "车牌", "苏E1234学"),
    ("车牌号为A12345", "车牌", "A12345"),
    ("卡号6222021234567890128被扣款", "银行卡", "6222021234567890128"),
    ("卡号6222 0212 3456 7890 128被扣款", "银行卡", "6222 0212 3456 7890 128"),
    ("请发到some.one@example.com", "邮箱", "some.one@example.com"),
    ("我叫王小明，住在东街", "姓名", "王小明"),
    ("我叫陈晨家住西街", "姓名", "陈晨"),
    ("你好我叫李建国要反映一个事", "姓名", "李建国"),
    ("我是张丽华，小区路灯坏了", "姓名", "张丽华"),
    ("姓名：欧阳明月", "姓名", "欧阳明月"),
    ("联系人：赵强，白天都在", "姓名", "赵强"),
    ("联系人孙悦 随时联系", "姓名", "孙悦"),
    ("我叫买买提·艾力", "姓名", "买买提·艾力"),
    ("刘先生反映楼上漏水", "姓名", "刘"),
    ("请联系周小雨女士", "姓名", "周小雨"),
    ("联系人周小雨女士", "姓名", "周小雨"),
    ("住在幸福小区3栋2单元501室", "门牌", "2单元501室"),
    ("住在幸福小区3栋501室", "门牌", "501室"),
    ("幸福花园16-3-1802的业主", "门牌", "3-1802"),
    ("幸福花园5号楼1203漏水", "门牌", "1203"),
    ("三栋二单元五零一室停水", "门牌", "二单元五零一室"),
    ("租住在604号房", "门牌", "604号房"),
]

NOT_FOUND = [
    "押金13800元一直不退",
    "欠薪13800138000元",  # an amount, however large
    "总价1380万元的房子",
    "2018年1月2日投诉过",
    "2024-05-31 14:30:00打的电话",
    "打了12345和110都没用",
    "报警110，火警119，急救120",
    "订单号13800138000还没发货",
    "工单编号：202401021234567",
    "快递单号6222021234567890128丢件",
    "流水号 0898661234567",
    "统一社会信用代码91110105MA01234567",
    "编号201801021234567890",
    "卡号6222021234567890127",  # Luhn sum does not hold
    "数字110105194912310021",  # checksum does not hold, nobody calls it an identity card
    "坐58路和302路公交",
    "G1234次列车晚点",
    "K101次",
    "全小区三百户没水",
    "3栋300户全部停电",
    "5号楼2018年交房",
    "5号楼1203平方米的车库",
    "政策文件2018-123号",
    "面积120平米，单价15000",
    "坐标20.044，110.199",
    "我是高中生，想咨询中考",
    "我是业主，物业不作为",
    "我是江苏人，来这里打工",
    "我是房东，租客不交租",
    "我叫了两次车都没来",
    "我叫不到车",
    "姓名权受到侵害",
    "对方女士态度恶劣",
    "由于先生突发疾病",
    "女士优先的车厢",
    "老先生走失了",
    "某先生投诉过",
    "万达广场门口堵车",
    "王府井小区停电",
    "金山大道路灯不亮",
    "海关大楼前违停",
    "黄先锋路口红绿灯坏了",
    "教室里没有空调，办公室也没有",
    "3号教室漏雨",
    "五一路人民公园",
    "1-2楼扶梯停运",
    "5-6-2018提交的材料",
    "价格从3-5元涨到10-15元",
    "Windows11 A12345型号",
    "一三五上门，二四六不上门",
    "新A股上市公司",
    "比例是3:2:1",
    "邮件没收到@客服",
]


@pytest.mark.parametrize(("text", "kind", "piece"), FOUND)
def test_personal_data_is_found_where_it_stands(text: str, kind: str, piece: str) -> None:
    prepared = prepare(text)
    found = [(span.kind, text[span.start : span.end]) for span in prepared.masked]
    assert (kind, piece) in found
    assert placeholder(kind) in prepare(f"说明一下情况：{text}").text


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert prepare(text).masked == ()
    assert redact(text) == text


@pytest.mark.parametrize("kind", KINDS)
def test_placeholders_stay_untouched(kind: str) -> None:
    text = f"车主{placeholder(kind)}一直占道"
    assert prepare(text).text == text
    assert prepare(text).masked == ()


def test_title_stays_and_building_stays() -> None:
    assert prepare("我家邻居刘先生太吵").text == "我家邻居[姓名]先生太吵"
    assert prepare("住在幸福小区3栋2单元501室").text == "住在幸福小区3栋[门牌]"
    assert prepare("幸福花园16-3-1802的业主").text == "幸福花园16-[门牌]的业主"


def test_several_kinds_at_once_in_order_and_without_overlap() -> None:
    text = "我叫王小明，手机13800138000，车京A12345，住3栋501室"
    found = find_personal_data(text)
    assert [hit.kind for hit in found] == ["姓名", "手机号", "车牌", "门牌"]
    assert all(one.end <= other.start for one, other in pairwise(found))


def test_redact_changes_nothing_but_the_data() -> None:
    text = "  请打１３８００１３８０００！！！！！！\u200b謝謝  "
    assert redact(text) == "  请打[手机号]！！！！！！\u200b謝謝  "


def test_hidden_characters_do_not_hide_a_number() -> None:
    assert "[手机号]" in prepare("请打138\u200b0013\u200b8000找我").text
